"""Does a medseg config reach what a bare PyTorch loop reaches with the same recipe, in the same time?

    python benchmarks/parity.py --data data/ddti [--epochs 2] [--rounds 1] [--full] [--precision bf16-mixed]

Both train the recipe of ``experiment=ddti_parity`` in one process, an epoch of the bare loop before every epoch of
medseg, so that whatever else the machine does meets both. The bare loop reads and resizes the files itself and has its
own augmentation, loss and schedule; nothing of it is medseg's. Everything outside the bare loop's epochs is medseg's
time: loader, training, checkpoint, journal, MLflow. With ``--full`` both are trained to the end (40 epochs) and scored
on fold 0, on the network's grid, by one and the same function. Without ``--data`` nothing is measured.
"""

import argparse
import csv
import statistics
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import segmentation_models_pytorch as smp
import torch
from lightning import Trainer, seed_everything
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torch.nn import functional

from medseg.commands.assembly import Parts, assemble
from medseg.commands.configuration import choices, compose, freeze
from medseg.commands.isolation import quiet_lightning
from medseg.commands.recording import Recording

BATCH, RATE, DECAY, CLIP, WARMUP = 8, 1e-3, 1e-2, 5.0, 0.15
MEAN, STD = 0.25, 0.2
TEST_FOLD = "0"
LIMIT = 1.05
Pair = tuple[np.ndarray, np.ndarray]


def read_pairs(root: Path, size: int, *, test: bool) -> list[Pair]:
    """Return grey images and masks of 0 and 1, uint8 (size, size), of the test fold or of all others."""
    with (root / "manifest.csv").open(encoding="utf-8", newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if (row["fold"] == TEST_FOLD) == test]
    pairs = []
    for row in rows:
        image, mask = (cv2.imread(str(root / row[name]), cv2.IMREAD_GRAYSCALE) for name in ("image", "mask"))
        label = (mask > 127).astype(np.uint8)
        small = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)
        pairs.append((small, cv2.resize(label, (size, size), interpolation=cv2.INTER_NEAREST)))
    return pairs


def changed(pair: Pair, draw: np.random.Generator) -> Pair:
    """Return a pair after affine, flip, gamma, gain and noise; the image as float32 in units of full scale."""
    image, mask = pair
    size = len(image)
    way = cv2.getRotationMatrix2D((size / 2, size / 2), draw.uniform(-15, 15), draw.uniform(0.8, 1.25))
    way[:, 2] += size * draw.uniform(-0.08, 0.08, 2)
    image = cv2.warpAffine(image, way, (size, size), flags=cv2.INTER_LINEAR)
    mask = cv2.warpAffine(mask, way, (size, size), flags=cv2.INTER_NEAREST)
    if draw.random() < 0.5:
        image, mask = image[:, ::-1], mask[:, ::-1]
    levels = (np.arange(256, dtype=np.float32) / 255) ** draw.uniform(0.7, 1.4) * draw.uniform(0.8, 1.2)
    noise = draw.standard_normal(image.shape, dtype=np.float32)
    return levels.astype(np.float32)[image] + np.float32(0.03) * noise, mask


def network_input(images: list[np.ndarray]) -> Tensor:
    """Return images in units of full scale as the network wants them."""
    stacked = torch.from_numpy(np.stack(images)).unsqueeze(1)
    return stacked.sub_(MEAN).div_(STD).contiguous(memory_format=torch.channels_last)


class BareLoop:
    """A training loop without any framework, an epoch at a time."""

    def __init__(self, pairs: list[Pair], given: argparse.Namespace, seed: int) -> None:
        torch.manual_seed(seed)
        self.pairs, self.draw, self.bf16 = pairs, np.random.default_rng(seed), given.precision == "bf16-mixed"
        net = smp.Unet(given.encoder, encoder_weights=None, in_channels=1, classes=2)
        self.net = net.to(memory_format=torch.channels_last).train()
        self.steps = min(len(pairs) // BATCH, given.limit or len(pairs))
        self.optimizer = torch.optim.AdamW(self.net.parameters(), lr=RATE, weight_decay=DECAY)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, max_lr=RATE, total_steps=max(2, given.epochs * self.steps), pct_start=WARMUP
        )

    def epoch(self) -> None:
        """Train one epoch."""
        order = self.draw.permutation(len(self.pairs))
        for first in range(0, self.steps * BATCH, BATCH):
            images, masks = zip(*(changed(self.pairs[i], self.draw) for i in order[first : first + BATCH]), strict=True)
            truth = torch.from_numpy(np.stack(masks)).long()
            with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
                logits = self.net(network_input(list(images)))
            self.optimizer.zero_grad()
            self.loss(logits.float(), truth).backward()
            nn.utils.clip_grad_norm_(self.net.parameters(), CLIP)
            self.optimizer.step()
            self.schedule.step()

    @staticmethod
    def loss(logits: Tensor, truth: Tensor) -> Tensor:
        """Return cross entropy plus one minus the soft Dice of the foreground, averaged over the images."""
        share, inside = logits.softmax(1)[:, 1].flatten(1), truth.flatten(1).float()
        dice = (2 * (share * inside).sum(1) + 1) / (share.sum(1) + inside.sum(1) + 1)
        return functional.cross_entropy(logits, truth) + 1 - dice.mean()


class Turns(Callback):
    """Trains an epoch of the bare loop before each epoch of the trainer, and times both."""

    def __init__(self, bare: BareLoop) -> None:
        self.bare, self.bare_seconds, self.medseg_seconds = bare, [], []
        self.since: float | None = None

    def medseg_until(self, now: float) -> None:
        """Stop medseg's clock if it runs."""
        if self.since is not None:
            self.medseg_seconds.append(now - self.since)

    def on_train_epoch_start(self, *_: Any) -> None:
        """Stop medseg's clock, which ran through the end of its last epoch, train the bare epoch, start it again."""
        started = time.perf_counter()
        self.medseg_until(started)
        self.bare.epoch()
        self.since = time.perf_counter()
        self.bare_seconds.append(self.since - started)


class LastTurn(Callback):
    """Stops medseg's clock after the last epoch's checkpoint and record: it has to stand behind them."""

    def __init__(self, turns: Turns) -> None:
        self.turns = turns

    def on_train_end(self, *_: Any) -> None:
        """Stop it."""
        self.turns.medseg_until(time.perf_counter())


def medseg_parts(scratch: Path, given: argparse.Namespace, seed: int) -> Parts:
    """Return the parts of the experiment, its folder written and its MLflow run open."""
    overrides = [
        *("experiment=ddti_parity", f"seed={seed}", f"paths.outputs={scratch}", f"data.source.root={given.data}"),
        *(f"preprocess.size=[{given.size},{given.size}]", f"net.encoder_name={given.encoder}"),
        *(f"trainer.max_epochs={given.epochs}", f"trainer.precision={given.precision}"),
        *([f"+trainer.limit_train_batches={given.limit}"] if given.limit else []),
    ]
    folder = Path(tempfile.mkdtemp(dir=scratch))
    composed = compose("train", overrides)
    composed.folder = str(folder)
    config = freeze(composed, choices(composed))
    seed_everything(seed, verbose=False)
    parts = assemble(config, folder)
    Recording(config, folder, parts).start()
    return parts


@torch.no_grad()
def scores(net: nn.Module, pairs: list[Pair]) -> dict[str, float]:
    """Return per-case Dice and, over all pixels together, nodule IoU, background IoU and accuracy."""
    net.eval()
    counts = []
    for image, mask in pairs:
        logits = net(network_input([image.astype(np.float32) / 255]))
        found, there = logits.argmax(1)[0].numpy() == 1, mask == 1
        counts.append([(found & there).sum(), (found & ~there).sum(), (~found & there).sum(), (~found & ~there).sum()])
    tp, fp, fn, tn = np.array(counts, np.float64).T
    dice = np.where(tp + fp + fn > 0, 2 * tp / np.maximum(2 * tp + fp + fn, 1), 1.0)
    tp, fp, fn, tn = (part.sum() for part in (tp, fp, fn, tn))
    wrong = fp + fn
    accuracy = (tp + tn) / (tp + tn + wrong)
    return {"Dice": dice.mean(), "n_IoU": tp / (tp + wrong), "b_IoU": tn / (tn + wrong), "PA": accuracy}


def one_round(scratch: Path, given: argparse.Namespace, seed: int) -> list[float]:
    """Train both, print what they took and, if asked, what they reached; return the ratio of every epoch."""
    parts = medseg_parts(scratch, given, seed)
    turns = Turns(BareLoop(read_pairs(given.data, given.size, test=False), given, seed))
    trainer: Trainer = parts.trainer
    trainer.callbacks.insert(0, turns)
    trainer.callbacks.append(LastTurn(turns))
    trainer.fit(parts.module, parts.data)
    parts.journal.close()
    if trainer.global_step != given.epochs * turns.bare.steps or not parts.tracker.healthy:
        raise SystemExit(f"medseg made {trainer.global_step} steps, the bare loop {given.epochs * turns.bare.steps}")
    ratios = [ours / bare for ours, bare in zip(turns.medseg_seconds, turns.bare_seconds, strict=True)]
    for name, seconds in (("bare loop", turns.bare_seconds), ("medseg", turns.medseg_seconds)):
        print(f"seed {seed}, {name:9}: {statistics.median(seconds):8.2f} s an epoch (median of {len(seconds)})")
    middle, spread = statistics.median(ratios), f"{min(ratios):.3f} to {max(ratios):.3f}"
    print(f"seed {seed}, ratio    : {middle:8.3f} ({spread})", flush=True)
    if given.full:
        test = read_pairs(given.data, given.size, test=True)
        for name, net in (("bare loop", turns.bare.net), ("medseg", parts.module.net)):
            print(f"seed {seed}, {name:9}:", *(f"{key} {value:.4f}" for key, value in scores(net, test).items()))
    return ratios


def main() -> int:
    """Print times, ratio and scores; the exit code is 1 when medseg takes over 1.05 of the bare loop's time."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of ddti, with manifest.csv")
    parser.add_argument("--size", type=int, default=192, help="pixels along each side")
    parser.add_argument("--encoder", default="resnet34")
    parser.add_argument("--epochs", type=int, help="2, with --full 40")
    parser.add_argument("--rounds", type=int, default=1, help="trainings of each, with seeds 0, 1 ...")
    parser.add_argument("--full", action="store_true", help="train to the end and score on fold 0")
    parser.add_argument("--precision", default="32-true", choices=["32-true", "bf16-mixed"])
    parser.add_argument("--limit", type=int, default=0, help="batches an epoch; 0 for all")
    given = parser.parse_args()
    if given.data is None:
        print("needs real images: python benchmarks/parity.py --data FOLDER_OF_DDTI; nothing measured")
        return 0
    given.data, given.epochs = given.data.absolute(), given.epochs or (40 if given.full else 2)
    warnings.simplefilter("ignore")
    quiet_lightning()
    with tempfile.TemporaryDirectory() as scratch:
        ratios = [ratio for seed in range(given.rounds) for ratio in one_round(Path(scratch), given, seed)]
    print(f"medseg takes {statistics.median(ratios):.3f} of the bare loop's time (limit {LIMIT})")
    return int(statistics.median(ratios) > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
