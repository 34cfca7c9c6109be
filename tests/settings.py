"""Settings of trainings that several tests share."""

TINY = (
    "data=folder",
    "split=manifest_fold",
    "split.val_fraction=0.25",
    "preprocess.size=[32,32]",
    "net.widths=[4,8]",
    "trainer.max_epochs=2",
    "callbacks.progress=null",
    "trainer.enable_progress_bar=false",
    "tracking=csv",
    "threads=1",
)

TINY_PHANTOM = (
    "data.source.patients=10",
    "data.source.images_per_patient=1",
    "data.source.size=[120,120]",
    "data.batch_size=4",
    "net.widths=[4,8,16,32,64]",
    "preprocess.size=[32,32]",
    "trainer.max_epochs=1",
    "callbacks.progress=null",
    "trainer.enable_progress_bar=false",
    "tracking=csv",
    "threads=1",
)

TWINS = (
    "data=phantom",
    "data.source.patients=10",
    "data.source.images_per_patient=1",
    "data.source.size=[120,120]",
    "preprocess=seed004",
    "preprocess.size=[32,32]",
    "augment=none",
    "net.widths=[4,8]",
    "trainer.max_epochs=1",
    "callbacks.progress=null",
    "trainer.enable_progress_bar=false",
    "tracking=csv",
    "threads=1",
)
