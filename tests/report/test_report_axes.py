"""The picture of the axes: the sets that it shows, the names that it writes, and the page beside it."""

import doctest
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from matplotlib import image

from bnlab.report.pictures import axes

PAGE = Path(__file__).parents[2] / "experiments" / "normalizers" / "README.md"
SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize(
    ("kind", "values", "spans"),
    [
        ("batch", 5 * 6, (5, 2, 3, 1)),
        ("layer", 8 * 6, (1, 2, 3, 8)),
        ("instance", 6, (1, 2, 3, 1)),
        ("group", 2 * 6, (1, 2, 3, 2)),
    ],
)
def test_masks_are_whole_blocks_of_these_axes(kind, values, spans):
    mask = axes.masks()[kind]
    assert mask.shape == (5, 2, 3, 8)
    assert mask.sum() == values
    assert mask[tuple(slice(span) for span in spans)].all()


def test_the_names_are_read_off_the_masks():
    names = {kind: axes.averaged(mask) for kind, mask in axes.masks().items()}
    assert names == {"batch": "N, H, W", "layer": "C, H, W", "instance": "H, W", "group": "C/G, H, W"}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    out = tmp_path_factory.mktemp("axes") / "axes.svg"
    assert axes.main([str(out)]) == 0
    return out


def faces(out):
    """Colours of the visible faces, panel by panel, for each side: one collection of paths each."""
    collections = [group for group in ET.parse(out).iter(f"{SVG}g") if group.get("id", "").startswith("Poly")]
    fills = [[_fill(path) for path in group.iter(f"{SVG}path")] for group in collections]
    return {side: fills[number :: len(axes.SHADES)] for number, side in enumerate(axes.SHADES)}


def _fill(path):
    return path.get("style").split("fill: ")[1][:7]


def painted(name, side):
    shade = axes.SHADES[side]
    return "#" + "".join(f"{round(shade * int(name[at : at + 2], 16)):02x}" for at in (1, 3, 5))


def test_the_coloured_faces_are_those_of_the_masks(drawn):
    # On the left one sees N by H, W at channel 0, on the right C by H, W of image 0, on top N by C.
    visible = {"left": lambda m: m[:, :, :, 0], "right": lambda m: m[0], "top": lambda m: m[:, 0, 0]}
    for side, panels in faces(drawn).items():
        for mask, colours in zip(axes.masks().values(), panels, strict=True):
            blue = [colour == painted(axes.TOGETHER, side) for colour in colours]
            assert colours.index(painted(axes.CHOSEN, side)) == 0
            assert blue[1:] == visible[side](mask).ravel().tolist()[1:]


def test_each_panel_is_named_and_counted(drawn):
    parser = ET.XMLParser(target=ET.TreeBuilder(insert_comments=True))
    written = {node.text.strip() for node in ET.parse(drawn, parser).iter() if node.tag is ET.Comment}
    assert {"batch", "layer", "instance", "group", "N", "C", "H, W", "over C/G, H, W"} <= written
    assert {"30 of 240 values", "48 of 240 values", "6 of 240 values", "12 of 240 values"} <= written


def test_the_picture_comes_out_the_same_every_time(drawn, tmp_path):
    axes.main([str(tmp_path / "again.svg")])
    assert (tmp_path / "again.svg").read_bytes() == drawn.read_bytes()


def test_a_png_is_drawn_too(tmp_path, capsys):
    out = tmp_path / "axes.png"
    assert axes.main([str(out)]) == 0
    assert capsys.readouterr().out == f"{out}\n"
    pixels = image.imread(out)[..., :3]
    assert pixels.shape == (550, 1471, 3)  # 2.5 and 6.69 inches at 220 to the inch
    top = np.array([int(axes.CHOSEN[at : at + 2], 16) for at in (1, 3, 5)])
    assert (np.abs(pixels * 255 - top).max(-1) < 1).sum() > 4 * 300  # a face of each of four panels


def test_another_kind_of_file_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit):
        axes.main([str(tmp_path / "axes.jpg")])
    assert "OUT must end in .svg or .png" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not PAGE.exists(), reason="the lab notebook is not part of a source distribution")
def test_the_pages_examples_run():
    failed, tried = doctest.testfile(str(PAGE), module_relative=False)
    assert (failed, tried > 5) == (0, True)
