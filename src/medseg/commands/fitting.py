"""What must hold between network, view and data before anything is read or trained."""

import logging

from omegaconf import DictConfig, OmegaConf
from torch import nn

from medseg.commands.configuration import CONF
from medseg.commands.rehearsal import try_network
from medseg.data.datamodule import SegmentationData
from medseg.errors import ConfigError
from medseg.training.module import LOGGED, SegmentationModule
from medseg.types import offers

log = logging.getLogger(__name__)
ROOT_PREPROCESS = "resize"
"""The option of the root group ``preprocess`` that stands where nothing was chosen."""


def network_dims(net: nn.Module) -> int:
    """Return how many axes a network sees: what it says, or what its convolutions say; 2 without any."""
    for name in ("spatial_dims", "dimensions"):
        if getattr(net, name, None) in (2, 3):
            return int(getattr(net, name))
    return 3 if any(isinstance(layer, nn.Conv3d) for layer in net.modules()) else 2


def check_fit(config: DictConfig, data: SegmentationData, module: SegmentationModule) -> None:
    """Refuse networks, views and preprocessing that do not go with the data.

    Raises:
        ConfigError: one line that names both sides and the way out.
    """
    chosen = config.choices
    net, name = chosen.get("net", "?"), chosen.get("data", data.card.name)
    if data.view != module.view:
        raise ConfigError(
            f"data={name} does not use view={chosen.get('view')}; write 'view: ${{view}}' into the dataset's yaml."
        )
    _check_dims(net, name, data, module)
    if data.is_volume and offers(module.net, "prompt"):
        raise ConfigError(f"net={net} is interactive and marks pictures; data={name} holds volumes, use another net.")
    if data.is_volume:
        _check_preprocess(config, name)
    try_network(config, data, module)


def check_annotated(data: SegmentationData, module: SegmentationModule) -> None:
    """Refuse cases that annotate some classes only where no loss of ours judges the network.

    Raises:
        ConfigError: the network learns in a way of its own that needs every class, and some cases lack some.
    """
    net = module.net
    if (offers(net, "losses") or offers(net, "fit")) and data.partly_annotated("train", "val"):
        raise ConfigError(
            f"net={type(net).__name__} takes what is not in a mask for background, and some cases of "
            f"data={data.card.name} annotate some classes only (manifest column 'annotated'); use a network with one "
            "of conf/loss, such as net=unet, or leave these cases out of the manifest."
        )


def check_selection(config: DictConfig, data: SegmentationData) -> None:
    """Refuse to choose by validation scores where no case is there to give any.

    Raises:
        ConfigError: ``monitor`` is nothing that an epoch logs, or a callback watches ``val/...`` and the validation
            side is empty.
    """
    logged = ("train/loss", "val/loss", *(f"val/{name}" for name in LOGGED))
    if config.monitor not in logged:
        raise ConfigError(f"monitor={config.monitor} is not logged by an epoch; choose one of {', '.join(logged)}.")
    if data.cases("val"):
        return
    if str(config.scheduler.get("monitor", "")).startswith("val/"):
        raise ConfigError(
            f"split={config.choices.get('split')} leaves no validation case and scheduler="
            f"{config.choices.get('scheduler')} watches {config.scheduler.monitor}; choose another scheduler, or give "
            "the split a validation share."
        )
    watching = [
        name
        for name, callback in config.callbacks.items()
        if callback is not None and str(callback.get("monitor", "")).startswith("val/")
    ]
    if watching:
        raise ConfigError(
            f"split={config.choices.get('split')} leaves no validation case and callbacks.{watching[0]} watches "
            f"{config.callbacks[watching[0]].monitor}; set callbacks=last (the last weights are the result), or give "
            "the split a validation share."
        )


def _check_dims(net: str, name: str, data: SegmentationData, module: SegmentationModule) -> None:
    dims, seen = network_dims(module.net), data.view.dims
    if dims == seen:
        return
    if dims == 2:
        raise ConfigError(
            f"net={net} sees pictures and data={name} is shown to it as volumes; use view=slices, or a network with "
            "spatial_dims such as net=unet."
        )
    raise ConfigError(
        f"net={net} sees volumes and data={name} is shown to it as pictures; leave net.spatial_dims as it is, or use "
        "view=patches on volumes."
    )


def _check_preprocess(config: DictConfig, name: str) -> None:
    """Volumes bring a preprocessing of their own; a choice for pictures would silently do nothing."""
    option = config.choices.get("preprocess", ROOT_PREPROCESS)
    if option != ROOT_PREPROCESS:
        raise ConfigError(
            f"preprocess={option} is for pictures and data={name} holds volumes, whose preprocessing stands in its own "
            "yaml; change data.preprocess instead."
        )
    usual = OmegaConf.load(CONF / "preprocess" / f"{option}.yaml")
    if config.get("preprocess") != usual:
        log.warning(
            "preprocess.* is for pictures and does nothing to the volumes of data=%s; see data.preprocess", name
        )
