"""Builds a data set from the user's copy, as ArrayRecord and without TensorFlow.

python -m vjax.data.tfds_builders something_something_v2 --manual_dir=COPY --data_dir=OUT

Other options are Beam's, such as --direct_num_workers=8 --direct_running_mode=multi_processing or
--runner=DataflowRunner; folders may then be in a bucket.
"""

import argparse
import sys

import tensorflow_datasets as tfds
from apache_beam.options.pipeline_options import PipelineOptions

from vjax.data.rows import BadFile
from vjax.data.tfds_builders.moments import MomentsInTime
from vjax.data.tfds_builders.something import SomethingSomethingV2

BUILDERS = {builder.name: builder for builder in (SomethingSomethingV2, MomentsInTime)}


def main(argv: list[str] | None = None):
    parser = argparse.ArgumentParser(
        prog="python -m vjax.data.tfds_builders",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", choices=BUILDERS)
    parser.add_argument("--manual_dir", required=True, help="the data set as it was downloaded")
    parser.add_argument("--data_dir", required=True, help="where it is built")
    args, beam = parser.parse_known_args(argv)
    builder = BUILDERS[args.name](data_dir=args.data_dir)
    where = tfds.download.DownloadConfig(
        manual_dir=args.manual_dir, beam_options=PipelineOptions(beam)
    )
    try:
        builder.download_and_prepare(file_format="array_record", download_config=where)
    except (BadFile, FileNotFoundError) as error:
        sys.exit(str(error))
    for split in builder.info.splits.values():
        print(f"{builder.data_dir}: {split.name}, {split.num_examples} clips")


if __name__ == "__main__":
    main()
