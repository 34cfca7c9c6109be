"""What training cost in time, and an estimate of energy and carbon; nothing of the latter is measured.

energy = time x (cores x watts a core, or watts of the accelerator, + memory x watts a gigabyte) x PUE, and carbon =
energy x intensity of the grid: Lannelongue, Grealey and Inouye, Green Algorithms, Adv. Sci. 8 (2021) 2100707.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from medseg.report.tables import Cell, Table

WORLD = "world average of 2019, International Energy Agency, as Green Algorithms has it"


@dataclass(frozen=True)
class Power:
    """Assumptions behind the estimate; the defaults are those of Green Algorithms for unknown hardware.

    Attributes:
        core_watts: of a core of a processor in full use.
        accelerator_watts: of a graphics card in full use.
        memory_watts: of a gigabyte of memory.
        overhead: power usage effectiveness: what the building draws for each watt of the computer.
        grid_grams: grams of CO2-equivalent of a kilowatt-hour.
        grid_source: where ``grid_grams`` comes from.
    """

    core_watts: float = 12.0
    accelerator_watts: float = 200.0
    memory_watts: float = 0.3725
    overhead: float = 1.67
    grid_grams: float = 475.0
    grid_source: str = WORLD


@dataclass(frozen=True)
class Spent:
    """What a run recorded of its cost.

    Attributes:
        run: how it is called.
        seconds: of fitting.
        device: ``cpu``, ``cuda`` ...
        threads: of the processor; 1 where it was not recorded.
        processes: that trained together.
        memory_mb: peak memory; nan where it was not recorded.
        scope: address of the run, for a link.
    """

    run: str
    seconds: float
    device: str
    threads: int = 1
    processes: int = 1
    memory_mb: float = float("nan")
    scope: str = ""


def kilowatt_hours(spent: Spent, power: Power) -> float:
    """Return the estimated energy of a run; unrecorded memory counts as none."""
    unit = power.core_watts * spent.threads if spent.device == "cpu" else power.accelerator_watts
    memory = 0.0 if spent.memory_mb != spent.memory_mb else power.memory_watts * spent.memory_mb / 1000
    return spent.seconds / 3600 * (unit + memory) * spent.processes * power.overhead / 1000


def cost_table(runs: Sequence[Spent], power: Power) -> Table:
    """Return time, estimated energy and estimated carbon of each run, and of all."""
    rows = [_row(spent.run, spent.seconds, kilowatt_hours(spent, power), power, spent) for spent in runs]
    total = sum(spent.seconds for spent in runs), sum(kilowatt_hours(spent, power) for spent in runs)
    rows.append(_row("all runs", *total, power, None))
    columns = ("Run", "Device", "Threads", "Minutes to fit", "kWh (estimate)", "g CO2e (estimate)")
    said = (
        "Time is measured; energy and carbon are estimates, not measurements, and hold for the final runs alone: "
        "failed, repeated and discarded trainings, data preparation and evaluation are not in them.",
        f"Assumed: {power.core_watts:g} W a processor thread, {power.accelerator_watts:g} W an accelerator, "
        f"{power.memory_watts:g} W a gigabyte of memory, all in full use, times {power.overhead:g} for the building "
        f"(Lannelongue et al. 2021); {power.grid_grams:g} g CO2e a kilowatt-hour ({power.grid_source}).",
    )
    return Table("cost", "Time, and an estimate of energy and carbon", tuple(map(Cell, columns)), tuple(rows), said)


def _row(name: str, seconds: float, energy: float, power: Power, spent: Spent | None) -> tuple[Cell, ...]:
    minutes, grams = seconds / 60, energy * power.grid_grams
    return (
        Cell(name, link=spent.scope if spent else "", bold=spent is None),
        Cell(spent.device if spent else ""),
        Cell(str(spent.threads), value=float(spent.threads)) if spent else Cell(""),
        Cell(f"{minutes:,.1f}", value=minutes, unit="min"),
        Cell(f"{energy:.3g}" if energy < 100 else f"{energy:,.0f}", value=energy, unit="kWh"),
        Cell(f"{grams:.3g}" if grams < 100 else f"{grams:,.0f}", value=grams, unit="g"),
    )
