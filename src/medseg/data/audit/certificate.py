"""The certificate of an audit: what was compared, how, with which result, sealed against later edits.

The hashes form a chain: every file's SHA-256 into one of the file list, the findings into one of the findings, both and
everything else into the certificate's own, and that into a keyed signature (HMAC-SHA-256) if the environment variable
MEDSEG_AUDIT_KEY holds a key. Without a key anybody who edits a certificate can also seal it again, and it says
``signed: false``. It carries no time, so that the same data, split and code give the same certificate.
"""

import hashlib
import hmac
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from medseg.data.audit.audit import Audit
from medseg.data.audit.pairs import Thresholds
from medseg.data.audit.prints import VERSION
from medseg.data.splits import Split
from medseg.errors import DataError
from medseg.whole import write_whole

FORMAT = "medseg leak audit 1"
KEY = "MEDSEG_AUDIT_KEY"
HELD = (("dataset", "digest"), ("split", "hash"), ("split", "hash_if_leaky"), ("findings", "counts"))
"""What a reader relies on."""

CLEAN, LEAKS, DECLARED = "clean", "leaks", "declared leaky"
WORST = 20
"""Findings that the certificate itself shows."""


@dataclass(frozen=True)
class Certificate:
    """A sealed result.

    Attributes:
        content: everything but the seal, plain values.
        sha256: of the content's canonical JSON.
        signature: HMAC-SHA-256 of ``sha256``, or None.
    """

    content: Mapping[str, Any]
    sha256: str
    signature: str | None

    @property
    def verdict(self) -> str:
        """``clean``, ``leaks`` or ``declared leaky``."""
        return str(self.content["verdict"])

    @property
    def leaks(self) -> int:
        """How many findings lie across sides."""
        return sum(count.get("leak", 0) for count in self.content["findings"]["counts"].values())

    @property
    def signed(self) -> bool:
        """Whether it carries a signature."""
        return self.signature is not None

    @property
    def worst(self) -> str:
        """The strongest finding in words; empty without one."""
        shown = self.content["findings"]["worst"]
        return str(shown[0]["words"]) if shown else ""

    def write(self, path: Path) -> Path:
        """Write it as JSON, whole or not at all, and return the path."""
        whole = {**self.content, "seal": {"sha256": self.sha256, "hmac": self.signature, "signed": self.signed}}
        write_whole(path, json.dumps(whole, indent=1, sort_keys=True) + "\n")
        return path


def certify(
    found: Audit, *, name: str, digest: str, split: Split, thresholds: Thresholds, against: Sequence[str] = ()
) -> Certificate:
    """Return the sealed certificate of an audit.

    Args:
        found: the audit.
        name: the dataset's.
        digest: the dataset's (see ``cache.dataset_digest``).
        split: as it was audited.
        thresholds: what counted as the same.
        against: names of other datasets in the audit.
    """
    rows = [finding.row for finding in found.findings]
    files = sorted(found.files.values())
    content = {
        "format": FORMAT,
        "code": {"medseg": metadata.version("medseg"), "audit": VERSION},
        "dataset": {"name": name, "digest": digest, "against": sorted(against)},
        "files": {"count": len(files), "sha256": _sha256(files)},
        "split": {
            "name": split.name,
            "seed": split.seed,
            "leaky": split.leaky,
            "hash": split.hash,
            "hash_if_leaky": replace(split, leaky=True).hash,
            "cases": {side: len(ids) for side, ids in split.sides.items()},
        },
        "parameters": asdict(thresholds),
        "compared": {
            "pictures": found.pictures,
            "volumes": found.volumes,
            "unchecked_pairs": found.unchecked,
            "within_sides": found.within,
        },
        "findings": {
            "counts": found.counts,
            "sha256": _sha256(rows),
            "worst": [{**finding.row, "words": finding.words} for finding in found.findings[:WORST]],
        },
        "verdict": DECLARED if split.leaky else LEAKS if found.leaks else CLEAN,
    }
    return _sealed(json.loads(json.dumps(content)))


def audit_key(*, digest: str, split: Split, thresholds: Thresholds) -> str:
    """Return the key (20 hex digits) of a certificate in the cache: data, split, parameters and code version."""
    parts = [digest, split.hash, asdict(thresholds), VERSION, metadata.version("medseg"), FORMAT]
    return _sha256(parts)[:20]


def verify_certificate(path: Path, *, digest: str | None = None, split_hash: str | None = None) -> Certificate:
    """Return the certificate in a file after checking its seal.

    With a key in MEDSEG_AUDIT_KEY it must carry that key's signature.

    Args:
        path: ``audit.json``.
        digest: the dataset it must be for; None accepts any.
        split_hash: the split it must be for, as audited or as labelled leaky afterwards; None accepts any.

    Raises:
        DataError: the file is missing, no certificate, edited, unsigned or signed by another key although a key is
            given, or for another dataset or split.
    """
    content, seal = _read(Path(path))
    sealed = _sealed(content)
    if seal.get("sha256") != sealed.sha256:
        raise DataError(f"{path}: certificate was edited after it was sealed; run 'medseg data audit' again.")
    signature = seal.get("hmac")
    if sealed.signature is not None and not hmac.compare_digest(str(signature), sealed.signature):
        what = "carries no signature" if signature is None else "is signed with another key"
        raise DataError(f"{path}: certificate {what}; give its key in {KEY}, or run 'medseg data audit' again.")
    for what, wanted, held in (
        ("dataset (digest", digest, [content["dataset"]["digest"]]),
        ("split (hash", split_hash, [content["split"]["hash"], content["split"]["hash_if_leaky"]]),
    ):
        if wanted is not None and wanted not in held:
            raise DataError(
                f"{path}: certificate is for another {what} {held[0][:12]}, wanted {wanted[:12]}); run 'medseg data "
                "audit' again."
            )
    return Certificate(content, sealed.sha256, None if signature is None else str(signature))


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        seal = content.pop("seal")
        if content["format"] != FORMAT or not isinstance(seal, dict):
            raise ValueError(f"format {content['format']!r}")
        for group, name in HELD:
            content[group][name]
    except FileNotFoundError:
        raise DataError(f"{path}: certificate is missing; write one with 'medseg data audit'.") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: no certificate of this version ({error}); run 'medseg data audit' again.") from None
    return content, seal


def _sealed(content: dict[str, Any]) -> Certificate:
    digest = _sha256(content)
    key = os.environ.get(KEY, "")
    signature = hmac.new(key.encode(), digest.encode(), hashlib.sha256).hexdigest() if key else None
    return Certificate(content, digest, signature)


def _sha256(content: Any) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()
