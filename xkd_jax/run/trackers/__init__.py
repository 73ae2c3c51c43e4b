"""Writers of a run's log besides its own files: TensorBoard, and services that keep many runs.

`config.log.writers` names them. Each is a `clu.metric_writers.MetricWriter`. Their modules import
clu and so TensorFlow; import them where a run begins.
"""


class TrackerError(ValueError):
    """A service cannot be used; the message is one line."""
