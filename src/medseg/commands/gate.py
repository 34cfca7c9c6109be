"""The gate at the start of training: no network is trained on a split that leaks unless its owner says so."""

import logging
import os
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medseg.data.audit.audit import audit
from medseg.data.audit.certificate import LEAKS, Certificate, audit_key, certify, verify_certificate
from medseg.data.audit.pairs import Thresholds
from medseg.data.splits import SIDES
from medseg.errors import ConfigError, DataError

if TYPE_CHECKING:
    from medseg.data.datamodule import SegmentationData

log = logging.getLogger(__name__)
OWN_KEYS = ("gate", "allow_leaks")


class LeakError(ConfigError):
    """The sides of the split share pictures or patients."""


def gate(config: Mapping[str, Any], data: "SegmentationData", folder: Path | None = None) -> Certificate | None:
    """Audit the split of prepared data, or take the certificate of an earlier audit, before anything is trained.

    Leaks that are allowed label the run: ``data.declare_leaky()`` makes its split leaky, and every output says so.

    Args:
        config: with ``audit`` (see ``conf/audit/default.yaml``) and ``paths.cache``.
        data: prepared.
        folder: the run's, which gets ``audit.json``; None writes none.

    Returns:
        the certificate; None if ``audit.gate`` is false.

    Raises:
        LeakError: the sides share something, the split does not say so, and ``audit.allow_leaks`` is false.
        DataError: a file is unreadable.
    """
    settings = config.get("audit")
    if settings is None or not settings["gate"]:
        return None
    certificate = _certificate(data, thresholds_of(settings), Path(config["paths"]["cache"]) / "audits")
    if folder is not None and os.environ.get("LOCAL_RANK", "0") == "0":
        certificate.write(Path(folder) / "audit.json")
    if certificate.verdict == LEAKS:
        if not settings["allow_leaks"]:
            raise LeakError(leak_message(certificate, data))
        log.warning("%s; allowed by audit.allow_leaks=true, every output is labelled LEAKY", _what(certificate))
        data.declare_leaky()
    return certificate


def thresholds_of(settings: Mapping[str, Any]) -> Thresholds:
    """Return what counts as the same from the ``audit`` node.

    Raises:
        ConfigError: a key is unknown or a value impossible.
    """
    known = [field.name for field in fields(Thresholds)]
    given = {str(name): value for name, value in settings.items() if name not in OWN_KEYS}
    strange = sorted(set(given) - set(known))
    if strange:
        raise ConfigError(f"audit.{strange[0]} is no key of the audit; choose from {', '.join([*OWN_KEYS, *known])}.")
    return Thresholds(**given)


def _certificate(data: "SegmentationData", thresholds: Thresholds, cache: Path) -> Certificate:
    """Return a certificate of the same data, split, numbers and code, made first if there is none."""
    from filelock import FileLock

    key = audit_key(digest=data.digest, split=data.split, thresholds=thresholds)
    path = cache / f"{data.card.name}-{key}.json"
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):  # the processes of a distributed run wait for the first
            return _kept(path, data) or _made(path, data, thresholds, cache)
    except OSError as error:
        raise DataError(
            f"{cache}: audits cannot be written ({error.strerror or error}); free space or set MEDSEG_CACHE elsewhere."
        ) from None


def _kept(path: Path, data: "SegmentationData") -> Certificate | None:
    if not path.is_file():
        return None
    try:
        return verify_certificate(path, digest=data.digest, split_hash=data.split.hash)
    except DataError as error:
        log.warning("%s The audit is made anew.", error)
        return None


def _made(path: Path, data: "SegmentationData", thresholds: Thresholds, cache: Path) -> Certificate:
    sides = {side: data.cases(side) for side in SIDES}
    found = audit(sides, thresholds=thresholds, cache=cache, within=False)
    made = certify(found, name=data.card.name, digest=data.digest, split=data.split, thresholds=thresholds)
    made.write(path)
    return made


def leak_message(certificate: Certificate, data: "SegmentationData") -> str:
    """Return one line: how many leaks, the worst, and the two ways out."""
    root = getattr(data.source, "keywords", {}).get("root")
    where = f"{Path(root) / 'manifest.csv'}" if root else "the manifest"
    return (
        f"{_what(certificate)}; give such cases one group in {where} (all of them: medseg data audit "
        f"data={data.card.name}), or set audit.allow_leaks=true, which labels every output LEAKY."
    )


def _what(certificate: Certificate) -> str:
    content = certificate.content
    return (
        f"dataset '{content['dataset']['name']}', split '{content['split']['name']}': {certificate.leaks} leak(s) "
        f"between sides, the worst: {certificate.worst}"
    )
