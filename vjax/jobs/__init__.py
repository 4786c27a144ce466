"""Jobs: the only place where rooms meet. A public file a job, `run(config, workdir, *, fresh)`."""
