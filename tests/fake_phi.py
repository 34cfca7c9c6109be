"""Makers of DICOM files with every one of the 18 kinds of identity planted, in every place where it could hide."""

from pathlib import Path

import numpy as np
from pydicom import Dataset, Sequence
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, UltrasoundImageStorage

KINDS = {
    "names": "ZOLTANOVA",
    "geographic subdivisions": "QUIRRELSTRASSE 77",
    "dates": "19470613",
    "telephone numbers": "555-0198-2231",
    "fax numbers": "555-0198-9987",
    "electronic mail addresses": "zoe@example.org",
    "social security numbers": "078-05-1120",
    "medical record numbers": "MRN-8841207",
    "health plan numbers": "HP-55120934",
    "account numbers": "ACC-7719003",
    "certificate and licence numbers": "LIC-2290417",
    "vehicle identifiers": "WVWZZZ1JZ3W",
    "device identifiers": "SN-4410-XYZ-9",
    "web addresses": "https://example.org/zz9",
    "internet protocol addresses": "203.0.113.77",
    "biometric identifiers": "VOICEPRINT-31337",
    "full-face photographs": "FACEPHOTO-90210",
    "any other identifying number": "BARCODE-66120",
}
UID_ROOT = "1.2.826.0.1.3680043.10.1047"
PRIVATE = 0x0043


def planted_file(
    path: Path, pixels: np.ndarray, *, number: int = 1, modality: str = "US", burnt: str = "YES", study: str = "1"
) -> Path:
    """Write a file with every kind in standard, nested and private attributes, UIDs, header, preamble and overlay."""
    ds = Dataset()
    ds.SOPClassUID = UltrasoundImageStorage
    ds.SOPInstanceUID, ds.StudyInstanceUID = f"{UID_ROOT}.{study}.5.{number}", f"{UID_ROOT}.{study}"
    ds.SeriesInstanceUID, ds.FrameOfReferenceUID = f"{UID_ROOT}.{study}.5", f"{UID_ROOT}.{study}.9"
    ds.Modality, ds.BurnedInAnnotation = modality, burnt
    ds.PatientName, ds.PatientID = f"{KINDS['names']}^ZOE", KINDS["medical record numbers"]
    ds.PatientAddress, ds.InstitutionName = KINDS["geographic subdivisions"], f"Clinic {KINDS['names']}"
    ds.PatientBirthDate = ds.StudyDate = ds.ContentDate = KINDS["dates"]
    ds.AcquisitionDateTime = f"{KINDS['dates']}101112"
    ds.PatientTelephoneNumbers = [KINDS["telephone numbers"], KINDS["fax numbers"]]
    ds.PatientComments = "; ".join(KINDS.values())
    ds.IssuerOfPatientID = KINDS["social security numbers"]
    ds.InsurancePlanIdentification, ds.AccessionNumber = KINDS["health plan numbers"], KINDS["account numbers"]
    ds.ResponsibleOrganization = KINDS["certificate and licence numbers"]
    ds.PatientTransportArrangements = KINDS["vehicle identifiers"]
    ds.DeviceSerialNumber, ds.StationName = KINDS["device identifiers"], KINDS["internet protocol addresses"]
    ds.RetrieveURL = KINDS["web addresses"]
    ds.StudyDescription, ds.BodyPartExamined = KINDS["biometric identifiers"], KINDS["full-face photographs"]
    ds.ImageType = ["ORIGINAL", "PRIMARY", KINDS["any other identifying number"]]
    ds.Laterality = KINDS["names"]
    nested = Dataset()
    nested.ReferencedSOPClassUID = UltrasoundImageStorage
    nested.ReferencedSOPInstanceUID = f"{UID_ROOT}.{study}.5.1"
    for keyword in ("PatientComments", "ImageComments", "CodeMeaning"):
        setattr(nested, keyword, " | ".join(KINDS.values())[: 64 if keyword == "CodeMeaning" else None])
    deeper = Dataset()
    deeper.PersonName, deeper.TextValue = KINDS["names"], KINDS["electronic mail addresses"]
    nested.ContentSequence = Sequence([deeper])
    block = nested.private_block(PRIVATE, "MAKER 1", create=True)
    block.add_new(1, "LT", " ".join(KINDS.values()))
    ds.ReferencedImageSequence = Sequence([nested])
    ds.RequestAttributesSequence = Sequence([nested])
    block = ds.private_block(PRIVATE, "MAKER 1", create=True)
    block.add_new(1, "LT", " ".join(KINDS.values()))
    block.add_new(2, "UN", KINDS["names"].encode())
    ds.add_new(0x50003000, "OW", f"{KINDS['full-face photographs']} ".encode())  # a curve
    ds.add_new(0x60000022, "LO", KINDS["names"])  # an overlay's description
    ds.add_new(0x60003000, "OW", f"{KINDS['biometric identifiers']}".encode())
    _add_pixels(ds, pixels)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID, ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID
    ds.file_meta.SourceApplicationEntityTitle = KINDS["names"]
    ds.file_meta.PrivateInformationCreatorUID = f"{UID_ROOT}.77"
    ds.file_meta.PrivateInformation = " ".join(KINDS.values()).encode() + b" "
    ds.preamble = " ".join([KINDS["names"], KINDS["medical record numbers"]]).encode().ljust(128, b"\0")
    path.parent.mkdir(parents=True, exist_ok=True)
    ds.save_as(path, enforce_file_format=True)
    return path


def _add_pixels(ds: Dataset, pixels: np.ndarray) -> None:
    """Add uint8 (H, W), (frames, H, W) or (H, W, 3) pixels."""
    colour = pixels.ndim == 3 and pixels.shape[2] == 3
    ds.Rows, ds.Columns = pixels.shape[:2] if pixels.ndim == 2 or colour else pixels.shape[1:]
    ds.SamplesPerPixel, ds.PhotometricInterpretation = (3, "RGB") if colour else (1, "MONOCHROME2")
    if colour:
        ds.PlanarConfiguration = 0
    if pixels.ndim == 3 and not colour:
        ds.NumberOfFrames = len(pixels)
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 8, 8, 7, 0
    ds.PixelData = pixels.tobytes() + b"\0" * (pixels.size % 2)
    ds["PixelData"].VR = "OB"
