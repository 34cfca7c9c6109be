"""What the checklists ask, item by item, in short words of our own beside the published number.

The wording of the published lists is theirs and not repeated: whoever submits fills in the official form from these
answers. Each item names the fact of the run that answers it (a function of ``checklist_answers``), or none where a
record cannot know, and what remains for the authors.

Sources: CLAIM 2024 update, Tejani et al., Radiology: Artificial Intelligence 6(4):e240300, 2024 (44 items). TRIPOD+AI,
Collins et al., BMJ 385:e078378, 2024 (27 items, here those that the provenance of a run can touch). MICCAI
reproducibility checklist, as used for submissions since 2020: four groups without numbers, which are counted here.
"""

from dataclasses import dataclass

CLAIM_SOURCE = "CLAIM, 2024 update: Tejani et al., Radiology: Artificial Intelligence 6(4):e240300, 2024"
TRIPOD_SOURCE = "TRIPOD+AI: Collins et al., BMJ 385:e078378, 2024"
MICCAI_SOURCE = "MICCAI reproducibility checklist; numbers are group and place in it"


@dataclass(frozen=True)
class Question:
    """One item.

    Attributes:
        number: in the published list.
        topic: what it asks about, in our words.
        answer: name of the fact that answers it, empty where no record can.
        left: what the record cannot say and the authors add.
    """

    number: str
    topic: str
    answer: str = ""
    left: str = ""


Q = Question
CLAIM = (
    Q("1", "Title names the study as one of machine learning and its kind", "kind", "the title itself"),
    Q("2", "Summary of design, methods, results, conclusions"),
    Q("3", "Background, intended use and role of the method"),
    Q("4", "Aims and hypotheses"),
    Q("5", "Prospective or retrospective"),
    Q("6", "Goal of the study"),
    Q("7", "Where the data come from", "data_source", "recruitment, sites and dates"),
    Q("8", "Who was included and excluded"),
    Q("9", "Preprocessing of the images", "preprocessing"),
    Q("10", "Parts of the data that were selected", "sampling", "selection before the files reached the dataset"),
    Q("11", "How identities were removed"),
    Q("12", "What was done about missing data", "missing"),
    Q("13", "How the images were acquired", "modality", "devices and settings"),
    Q("14", "How the reference standard is defined"),
    Q("15", "Why this reference standard"),
    Q("16", "Who annotated", "citation", "whether that says it; the annotators' number, training and tools"),
    Q("17", "How the test cases were annotated"),
    Q("18", "Variation between and within annotators"),
    Q("19", "How cases were assigned to partitions", "partitions"),
    Q("20", "At which level partitions are disjoint", "disjoint"),
    Q("21", "Planned size of the test set", "test_size", "why this size"),
    Q("22", "Architecture of the model", "model"),
    Q("23", "Software and versions", "software"),
    Q("24", "Where the parameters start from", "initialisation"),
    Q("25", "How it was trained", "training"),
    Q("26", "How the final model was chosen", "selection"),
    Q("27", "Ensembles", "ensemble"),
    Q("28", "Metrics of performance", "metrics", "why these metrics"),
    Q("29", "Uncertainty and significance", "uncertainty", "tests between methods, from the study's comparison"),
    Q("30", "Robustness or sensitivity analysis", "strata", "changed inputs and settings"),
    Q("31", "Explainability and how it was checked"),
    Q("32", "Evaluation on internal data", "internal"),
    Q("33", "Testing on external data", "external"),
    Q("34", "Registration as a clinical trial"),
    Q("35", "Numbers of patients and cases in and out", "counts", "exclusions and their reasons"),
    Q("36", "Characteristics of the cases by partition", "characteristics", "demographics"),
    Q("37", "Performance with its uncertainty", "performance"),
    Q("38", "Diagnostic performance and its precision"),
    Q("39", "Analysis of failures", "failures", "what the failures look like"),
    Q("40", "Limits of the study", "flags", "further limits"),
    Q("41", "What it means for practice"),
    Q("42", "Full protocol or further details", "protocol", "where the folder is published"),
    Q("43", "Whether software, model and data can be had", "availability", "addresses"),
    Q("44", "Funding and the funders' role"),
)

TRIPOD_AI = (
    Q("1", "Title", "kind", "the title itself"),
    Q("3a", "Context in health care"),
    Q("3b", "Intended users and patients"),
    Q("3c", "Known inequalities in health"),
    Q("4", "Objectives"),
    Q("5a", "Sources of the data", "data_source", "how representative they are"),
    Q("5b", "Dates of the data"),
    Q("6a", "Setting and centres", "domains", "the setting"),
    Q("6b", "Eligibility"),
    Q("7", "Preparation of the data and checks", "preprocessing"),
    Q("8a", "What is predicted", "output", "how the reference was made"),
    Q("8b", "Who assessed the outcome, where judgement is needed"),
    Q("9a", "Inputs of the model and why these", "inputs", "why these"),
    Q("10", "Size of the study", "counts", "how the size was chosen"),
    Q("11", "Missing data", "missing"),
    Q("12a", "How the data were used and divided", "partitions"),
    Q("12b", "How inputs were transformed", "preprocessing"),
    Q("12c", "Kind of model, its building and tuning", "hyperparameters", "why this kind; ranges that were tried"),
    Q("12d", "Differences between clusters such as centres", "strata"),
    Q("12e", "Measures of performance", "metrics", "why these measures"),
    Q("12f", "Updating of the model after evaluation"),
    Q("12g", "How predictions were computed in evaluation", "loading"),
    Q("13", "Imbalance of classes", "imbalance"),
    Q("14", "Fairness: what was done", "strata", "groups that matter and what was done about them"),
    Q("15", "Output of the model and thresholds", "output"),
    Q("16", "Differences between training and evaluation data", "characteristics", "settings and inclusion"),
    Q("17", "Ethical approval and consent"),
    Q("18a", "Funding"),
    Q("18b", "Conflicts of interest"),
    Q("18c", "Protocol", "protocol", "where it is published"),
    Q("18d", "Registration"),
    Q("18e", "Sharing of data", "data_access", "addresses"),
    Q("18f", "Sharing of code", "software", "address of the code"),
    Q("19", "Involvement of patients and the public"),
    Q("20a", "Flow of participants", "counts", "exclusions and their reasons"),
    Q("20b", "Characteristics of participants", "characteristics", "demographics"),
    Q("20c", "Development against evaluation data", "prevalence", "demographics"),
    Q("21", "Participants and outcomes in each analysis", "counts"),
    Q("22", "The model in full", "loading"),
    Q("23a", "Performance with intervals, in groups where it matters", "performance"),
    Q("23b", "Differences between clusters", "strata"),
    Q("24", "Results of updating"),
    Q("25", "Interpretation"),
    Q("26", "Limits", "flags", "further limits"),
    Q("27a", "Inputs of poor quality or that are absent", "missing", "what happens in use"),
    Q("27b", "What users have to do and to know", "interaction", "expertise"),
    Q("27c", "Next steps"),
)

MICCAI = (
    Q("1.1", "Models: description", "model"),
    Q("1.2", "Models: assumptions"),
    Q("1.3", "Models: framework and version", "software"),
    Q("2.1", "Data: numbers", "counts"),
    Q("2.2", "Data: collection, devices, annotators of new data"),
    Q("2.3", "Data: link to what can be downloaded", "data_access"),
    Q("2.4", "Data: exclusions and preprocessing", "preprocessing", "exclusions"),
    Q("2.5", "Data: ethical approval"),
    Q("3.1", "Code: dependencies", "software"),
    Q("3.2", "Code: training", "commit", "address of the code"),
    Q("3.3", "Code: evaluation", "commit", "address of the code"),
    Q("3.4", "Code: trained models", "weights", "where they can be had"),
    Q("3.5", "Code: data that it needs", "data_access"),
    Q("3.6", "Code: table of results with the commands", "loading", "the table of the study"),
    Q("4.1", "Results: hyperparameters, ranges, choice", "hyperparameters", "ranges that were tried"),
    Q("4.2", "Results: sensitivity to parameters"),
    Q("4.3", "Results: number of trainings and evaluations", "runs", "trainings that are not of this study"),
    Q("4.4", "Results: how baselines were made and tuned"),
    Q("4.5", "Results: division into train, validation, test", "partitions"),
    Q("4.6", "Results: definition of the metrics", "metrics"),
    Q("4.7", "Results: mean and variation", "performance"),
    Q("4.8", "Results: significance of differences", "", "from the study's comparison"),
    Q("4.9", "Results: runtime or energy", "runtime", "energy"),
    Q("4.10", "Results: memory", "memory"),
    Q("4.11", "Results: where the method failed", "failures", "what the failures look like"),
    Q("4.12", "Results: machine and software", "machine"),
    Q("4.13", "Results: clinical meaning"),
)
