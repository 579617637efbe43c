"""The dataset `photos`: photographs inside the packages scikit-image and scikit-learn.

`lorun data make photos` builds it without network, with the same bytes on every machine, and checks it against
data/photos.md5.
"""

from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from lorun.data.images import read_image
from lorun.data.png import encode_png
from lorun.errors import LorunError
from lorun.files import replace_files


class Source(NamedTuple):
    """One photograph: its split and its origin."""

    split: str
    name: str
    package: str
    file: str  # inside the package
    kinds: tuple[str, ...]


_GRAY = ("gray",)
_COLOUR = ("gray", "rgb")

# Without motorcycle_right.png, which is nearly the same as motorcycle_left.png.
SOURCES = (
    Source("test", "astronaut", "skimage", "data/astronaut.png", _COLOUR),
    Source("test", "camera", "skimage", "data/camera.png", _GRAY),
    Source("test", "coins", "skimage", "data/coins.png", _GRAY),
    Source("test", "grass", "skimage", "data/grass.png", _GRAY),
    Source("validation", "chelsea", "skimage", "data/chelsea.png", _COLOUR),
    Source("validation", "gravel", "skimage", "data/gravel.png", _GRAY),
    Source("train", "brick", "skimage", "data/brick.png", _GRAY),
    Source("train", "cell", "skimage", "data/cell.png", _GRAY),
    Source("train", "china", "sklearn", "datasets/images/china.jpg", _COLOUR),
    Source("train", "coffee", "skimage", "data/coffee.png", _COLOUR),
    Source("train", "flower", "sklearn", "datasets/images/flower.jpg", _COLOUR),
    Source("train", "hubble_deep_field", "skimage", "data/hubble_deep_field.jpg", _COLOUR),
    Source("train", "ihc", "skimage", "data/ihc.png", _COLOUR),
    Source("train", "moon", "skimage", "data/moon.png", _GRAY),
    Source("train", "motorcycle_left", "skimage", "data/motorcycle_left.png", _COLOUR),
    Source("train", "page", "skimage", "data/page.png", _GRAY),
    Source("train", "retina", "skimage", "data/retina.jpg", _COLOUR),
    Source("train", "rocket", "skimage", "data/rocket.jpg", _COLOUR),
)

_CHANNELS = {"gray": 1, "rgb": 3}


def build(out: Path, sources: Iterable[Source] = SOURCES) -> None:
    """Fill `out` anew: <split>/gray/<name>.png of every source, <split>/rgb/<name>.png of those in colour.

    Raises LorunError when a package or its file is missing or cannot be read; `out` is then not changed.
    """
    files = (
        (f"{source.split}/{kind}/{source.name}.png", encode_png(read_image(locate(source), _CHANNELS[kind])))
        for source in sources
        for kind in source.kinds
    )
    replace_files(out, files)


def locate(source: Source) -> Path:
    """The file of a source, found without importing its package, which would take seconds.

    Raises LorunError when the package or its file is missing.
    """
    spec = find_spec(source.package)
    if spec is None or not spec.submodule_search_locations:
        raise LorunError(f"package {source.package} is not installed (needed for its {source.file}): run `make setup`")
    path = Path(spec.submodule_search_locations[0], source.file)
    if not path.is_file():
        raise LorunError(f"package {source.package} has no file {source.file}: install the locked one, `make setup`")
    return path
