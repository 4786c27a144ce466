"""Jobs: the only place where rooms meet. One public file a job, `run(config, workdir, *, fresh)`."""
