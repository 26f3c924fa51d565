"""Your own folder: which files are images of which class and split, and every way to be unusable."""

import io
import os
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from augcam.config.schema import validate
from augcam.data.datasets.folder import ImageFolder, read_image, read_whole
from augcam.errors import UserError
from augcam.runs.build import build_data, build_source
from tests.conftest import compose


def write(path: Path, colour=(200, 10, 10), size=(40, 30), mode="RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).convert(mode).save(path)


def write_turned(path: Path, upright: Image.Image) -> None:
    """As a camera that was held on its side writes it: turned, and marked as turned."""
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown a quarter turn clockwise from how it lies in the file
    upright.transpose(Image.Transpose.ROTATE_90).save(path, exif=exif)


class TestImageFolder:
    def test_train_and_test_folders(self, tmp_path):
        for part, count in (("train", 3), ("test", 2)):
            for name, colour in (("cat", (250, 0, 0)), ("dog", (0, 250, 0))):
                for number in range(count):
                    write(tmp_path / part / name / f"{number}.png", colour)
        (tmp_path / "train" / "cat" / "notes.txt").write_text("left out")
        source = ImageFolder(tmp_path, image_size=16)
        source.prepare()
        assert source.classes == ("cat", "dog")
        train, test = source.train(), source.test()
        assert train.images.shape == (6, 16, 16, 3)
        assert train.labels.tolist() == [0, 0, 0, 1, 1, 1]
        assert test.labels.tolist() == [0, 0, 1, 1]
        assert np.all(train.images[:3] == [250, 0, 0])
        assert np.all(test.images[2:] == [0, 250, 0])
        assert np.allclose(source.mean, [125 / 255, 125 / 255, 0])
        assert np.allclose(source.std[:2], 125 / 255)

    def test_class_folders_alone_are_split_80_to_20(self, tmp_path):
        for name, count in (("a", 200), ("b", 100)):
            for number in range(count):
                write(tmp_path / name / f"{number}.png", (number, 0, 0))
        first, again = ImageFolder(tmp_path, 8), ImageFolder(tmp_path, 8)
        train, test = first.train(), first.test()
        assert len(train) + len(test) == 300
        assert abs(len(test) - 60) < 35  # standard deviation 6.9
        assert np.array_equal(again.test().images[:], test.images[:])
        for label in (0, 1):
            values = [set(part.images[part.labels == label][:, 0, 0, 0]) for part in (train, test)]
            assert not values[0] & values[1]

    def test_the_centre_square_of_the_short_side(self, tmp_path):
        """60x20, three squares side by side: only the middle one is left."""
        path = tmp_path / "wide.png"
        image = Image.new("RGB", (60, 20))
        for number, colour in enumerate([(255, 0, 0), (0, 255, 0), (0, 0, 255)]):
            image.paste(colour, (number * 20, 0, number * 20 + 20, 20))
        image.save(path)
        read = read_image(path, 10)
        assert read.shape == (10, 10, 3)
        assert np.all(read[:, 2:-2] == [0, 255, 0])

    def test_a_photo_from_a_turned_camera_is_turned_upright(self, tmp_path):
        upright = Image.new("RGB", (32, 32))
        upright.paste((255, 255, 255), (0, 0, 32, 16))
        write_turned(tmp_path / "photo.jpg", upright)
        for read in (
            read_image(tmp_path / "photo.jpg", 16),
            read_whole(tmp_path / "photo.jpg", 16),
        ):
            assert read[:7].min() > 200
            assert read[9:].max() < 50

    @pytest.mark.parametrize("mode", ["L", "P", "1", "RGBA", "CMYK", "LA"])
    def test_every_mode_becomes_rgb(self, tmp_path, mode):
        path = tmp_path / ("image.jpg" if mode == "CMYK" else "image.png")
        write(path, (255, 255, 255), mode=mode)
        assert np.all(read_image(path, 8) > 250)

    def test_sixteen_bits_are_scaled_and_not_clipped(self, tmp_path):
        Image.fromarray(np.full((8, 8), 0x8000, np.uint16)).save(tmp_path / "deep.png")
        assert np.all(read_image(tmp_path / "deep.png", 8) == 128)

    @pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
    def test_what_is_transparent_is_white(self, tmp_path, mode):
        """A black bar on a transparent black ground, as drawing programs save it."""
        pixels = np.zeros((12, 12, 4), np.uint8)
        pixels[4:8, :, 3] = 255
        image = Image.fromarray(pixels)
        path = tmp_path / ("image.gif" if mode == "P" else "image.png")
        (image if mode == "P" else image.convert(mode)).save(path)
        for read in (read_image(path, 12), read_whole(path, 12)):
            assert np.all(read[4:8] == 0)
            assert np.all(read[:4] == 255)
            assert np.all(read[8:] == 255)

    def test_opaque_pixels_keep_their_colours_and_half_transparent_ones_are_half_white(
        self, tmp_path
    ):
        colours = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        for alpha in (255, 51):
            pixels = np.dstack([colours, np.full((8, 8), alpha, np.uint8)])
            Image.fromarray(pixels).save(tmp_path / "image.png")
            expected = 255 + (colours.astype(float) - 255) * alpha / 255
            assert np.abs(read_image(tmp_path / "image.png", 8) - expected).max() <= (alpha < 255)

    @pytest.mark.parametrize(
        ("dtype", "words"), [(np.float32, "floating-point"), (np.int32, "integers of 32 bits")]
    )
    def test_a_file_whose_white_is_unknown_is_refused_before_training(self, tmp_path, dtype, words):
        two_classes(tmp_path / "train")
        two_classes(tmp_path / "test")
        odd = tmp_path / "test" / "b" / "odd.tif"
        Image.fromarray(np.ones((8, 8), dtype)).save(odd)
        refusal = rf"odd\.tif: its pixels are {words}.*convert it to 8 bits"
        with pytest.raises(UserError, match=refusal):
            ImageFolder(tmp_path, 8).prepare()
        with pytest.raises(UserError, match=refusal):
            read_whole(odd, 8)

    @pytest.mark.parametrize("part", ["train", "test"])
    @pytest.mark.parametrize("content", [b"", b"no image at all", None])
    def test_a_corrupt_file_is_named(self, tmp_path, part, content):
        for folder in ("train", "test"):
            for name in ("a", "b"):
                write(tmp_path / folder / name / "1.png", size=(200, 200))
        broken = tmp_path / part / "b" / "1.png"
        broken.write_bytes(broken.read_bytes()[:150] if content is None else content)
        source = ImageFolder(tmp_path, 8)
        with pytest.raises(UserError, match=str(broken)):
            source.train() if part == "train" else source.test()

    @pytest.mark.parametrize(
        "spoil",
        [lambda path: path.write_bytes(b""), lambda path: bomb(path, 10_000)],
        ids=["empty", "bomb"],
    )
    def test_a_test_file_that_cannot_be_used_is_named_before_training(self, tmp_path, spoil):
        for path in ("train/a", "train/b", "test/a", "test/b"):
            write(tmp_path / path / "1.png")
        spoil(tmp_path / "test" / "b" / "1.png")
        with pytest.raises(UserError, match=r"test/b/1\.png: not an image that can be read"):
            ImageFolder(tmp_path, 8).prepare()

    def test_one_class_is_no_task(self, tmp_path):
        write(tmp_path / "only" / "1.png")
        with pytest.raises(UserError, match=r"two folders or more.*found only/ alone"):
            ImageFolder(tmp_path, 8).prepare()

    def test_other_classes_in_test_than_in_train(self, tmp_path):
        for path in ("train/a", "train/b", "test/a", "test/c"):
            write(tmp_path / path / "1.png")
        with pytest.raises(UserError, match="same classes; only one of them has b, c"):
            ImageFolder(tmp_path, 8).prepare()

    def test_an_empty_class(self, tmp_path):
        write(tmp_path / "a" / "1.png")
        (tmp_path / "b").mkdir()
        with pytest.raises(UserError, match="b/ has no image"):
            ImageFolder(tmp_path, 8).prepare()

    @pytest.mark.parametrize(
        ("folders", "words", "way_out"),
        [
            (["train"], "found train/ but no test/", "train"),
            (["train", "val"], "found train/, val/ but no test/", "train"),
            (["train", "annotations"], "found train/ but no test/", "train"),
            (
                ["Training", "Testing"],
                "found Testing/, Training/ but no train/ and test/",
                "Training",
            ),
            (["Train", "test", "VALID"], "found Train/, VALID/, test/ but no train/", "Train"),
        ],
    )
    def test_splits_of_other_names_are_no_classes(self, tmp_path, folders, words, way_out):
        for folder in folders:
            two_classes(tmp_path / folder)
        with pytest.raises(UserError) as refused:
            ImageFolder(tmp_path, 8).prepare()
        assert words in str(refused.value)
        assert "name them train/ and test/" in str(refused.value)
        assert str(refused.value).endswith(f"data.root={tmp_path / way_out} is split by itself")
        ImageFolder(tmp_path / way_out, 8).prepare()

    def test_a_class_may_be_called_as_a_split_is(self, tmp_path):
        for name in ("bus", "Train"):
            write(tmp_path / name / "1.png")
            write(tmp_path / name / "2.png")
        assert ImageFolder(tmp_path, 8).classes == ("Train", "bus")

    @pytest.mark.parametrize(
        ("path", "found"), [("1.png", "none"), ("unknown/1.png", "unknown/ alone")]
    )
    def test_a_test_folder_without_labels(self, tmp_path, path, found):
        two_classes(tmp_path / "train")
        write(tmp_path / "test" / path)
        with pytest.raises(
            UserError, match=rf"found {found}; data\.root=.*/train is split by itself"
        ):
            ImageFolder(tmp_path, 8).prepare()

    def test_folders_beside_train_and_test_are_said_to_be_left_out(self, tmp_path, caplog):
        for part in ("train", "test", "val", "masks"):
            two_classes(tmp_path / part)
        ImageFolder(tmp_path, 8).prepare()
        assert "left out: 2 beside train/ and test/ (masks/, val/)" in caplog.text
        caplog.clear()
        for image in (tmp_path / "test").rglob("*.png"):
            write(tmp_path / "masks" / image.relative_to(tmp_path))
        ImageFolder(tmp_path, 8, masks=tmp_path / "masks").prepare()
        assert "left out: 1 beside train/ and test/ (val/)" in caplog.text

    def test_a_root_that_is_not_there(self, tmp_path):
        with pytest.raises(UserError, match=r"nowhere.*cannot be read"):
            ImageFolder(tmp_path / "nowhere", 8).prepare()

    def test_a_root_that_is_a_file_or_cannot_be_read(self, tmp_path, monkeypatch):
        (tmp_path / "file").write_text("")
        with pytest.raises(UserError, match="file"):
            ImageFolder(tmp_path / "file", 8).prepare()
        with pytest.raises(UserError, match="cannot be read"):
            ImageFolder("nul\0", 8).prepare()

        def denied(self):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(Path, "iterdir", denied)
        with pytest.raises(UserError, match="cannot be read"):
            ImageFolder(tmp_path, 8).prepare()

    def test_a_home_folder_is_spelt_out(self, monkeypatch, tmp_path):
        monkeypatch.setenv("HOME", str(tmp_path))
        config = validate(compose(["data=folder", "data.root='~/flowers'"]))
        source = build_source(config)
        assert isinstance(source, ImageFolder)
        assert source.root == tmp_path / "flowers"


def two_classes(root: Path, count: int = 3) -> None:
    for name in ("a", "b"):
        for number in range(count):
            write(root / name / f"{number}.png", (number, 0, 0))


def names(dataset: ImageFolder) -> set[str]:
    return {name for files in dataset._files.values() for name in files.names}


class TestSplit:
    def test_an_image_more_moves_no_other_from_training_to_test(self, tmp_path):
        two_classes(tmp_path, 40)
        before = {s: set(f.names) for s, f in ImageFolder(tmp_path, 8)._files.items()}
        for number in range(6):
            write(tmp_path / "a" / f"0{number}.png")
        after = {s: set(f.names) for s, f in ImageFolder(tmp_path, 8)._files.items()}
        assert before["train"] <= after["train"]
        assert before["test"] <= after["test"]

    def test_a_name_is_the_same_in_both_of_unicodes_spellings(self, tmp_path):
        for folder, letter in (("mac", "u\u0308"), ("other", "\xfc")):
            two_classes(tmp_path / folder, 20)
            for number in range(20):
                write(tmp_path / folder / "a" / f"{letter}{number}.png")
        mac, other = (ImageFolder(tmp_path / name, 8) for name in ("mac", "other"))
        assert set(mac._files["test"].names) == set(other._files["test"].names)
        assert mac.classes == other.classes

    def test_a_class_of_one_image_is_said_to_be_untested(self, tmp_path, caplog):
        two_classes(tmp_path)
        write(tmp_path / "single" / "1.png")
        dataset = ImageFolder(tmp_path, 8)
        dataset.prepare()
        assert "untested: single" in caplog.text
        assert 2 in dataset.train().labels
        assert 2 not in dataset.test().labels

    def test_nothing_to_test_with(self, tmp_path):
        two_classes(tmp_path, 1)
        with pytest.raises(UserError, match="none is left to test"):
            ImageFolder(tmp_path, 8).prepare()

    def test_a_run_of_the_first_version_keeps_its_split(self, tmp_path):
        """20 and 10 images, shuffled: exactly a fifth of each, and not those of the hashes."""
        for name, count in (("a", 20), ("b", 10)):
            for number in range(count):
                write(tmp_path / name / f"{number}.png")
        raw = compose(["data=folder", f"data.root={tmp_path}"])
        del raw.data.split
        old = build_source(validate(raw))
        assert np.bincount(old.test().labels).tolist() == [4, 2]
        assert isinstance(old, ImageFolder)
        now = set(old._files["test"].names)
        write(tmp_path / "a" / "x.gif")  # was no image then
        write(tmp_path / "a" / "deep" / "x.png")
        again = build_source(validate(raw))
        assert isinstance(again, ImageFolder)
        assert set(again._files["test"].names) == now

    def test_ones_own_images_are_validated_by_default(self, tmp_path):
        two_classes(tmp_path, 30)
        data = build_data(validate(compose(["data=folder", f"data.root={tmp_path}"])))
        data.prepare_data()
        data.setup("fit")
        labels = np.concatenate([data.train_set.labels, data.val_set.labels])
        for label in (0, 1):
            share = (data.val_set.labels == label).sum() / (labels == label).sum()
            assert share == pytest.approx(0.1, abs=0.03)


class TestFingerprint:
    def test_it_follows_the_images_alone(self, tmp_path):
        two_classes(tmp_path / "one")
        prints = {ImageFolder(tmp_path / "one", 8).fingerprint()}
        (tmp_path / "one").rename(tmp_path / "two")
        os.utime(tmp_path / "two" / "a" / "1.png", (1, 1))
        (tmp_path / "two" / "a" / "notes.txt").write_text("no image")
        prints.add(ImageFolder(tmp_path / "two", 16).fingerprint())
        assert len(prints) == 1

    @pytest.mark.parametrize("change", ["added", "removed", "renamed", "edited", "edited large"])
    def test_every_change_of_an_image_shows(self, tmp_path, change):
        two_classes(tmp_path)
        target = tmp_path / "a" / "1.png"
        if change == "edited large":  # uncompressed: the size stays
            target = tmp_path / "a" / "large.bmp"
            write(target, (9, 9, 9), size=(300, 300))
        before = ImageFolder(tmp_path, 8).fingerprint()
        if change == "added":
            write(tmp_path / "b" / "new.png")
        elif change == "removed":
            target.unlink()
        elif change == "renamed":
            target.rename(target.with_name("other.png"))
        else:
            size = target.stat().st_size
            content = bytearray(target.read_bytes())
            content[size // 2] ^= 1
            target.write_bytes(content)
            assert target.stat().st_size == size
        assert ImageFolder(tmp_path, 8).fingerprint() != before


def bomb(path: Path, side: int = 20_000) -> None:
    """A PNG of a few hundred kilobytes that says it has side x side pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        sum_ = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + sum_

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    body = zlib.compress(bytes(1_000_000))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    )


class TestWhatPeopleHave:
    @pytest.fixture
    def root(self, tmp_path):
        two_classes(tmp_path, 5)
        return tmp_path

    def left_out(self, root, caplog) -> str:
        caplog.clear()
        dataset = ImageFolder(root, 8)
        dataset.prepare()
        dataset.train()
        return next((r.getMessage() for r in caplog.records if "left out" in r.getMessage()), "")

    def test_files_that_macos_leaves_behind(self, root, caplog):
        (root / "a" / "._0.png").write_bytes(b"\0\5\x16\7")
        (root / "a" / ".DS_Store").write_bytes(b"")
        (root / "__MACOSX" / "a").mkdir(parents=True)
        (root / ".git").mkdir()
        assert "2 hidden" in self.left_out(root, caplog)
        assert ImageFolder(root, 8).classes == ("a", "b")

    def test_a_pipe_is_not_waited_for(self, root, caplog):
        os.mkfifo(root / "a" / "pipe.png")
        assert "1 a pipe, socket or device" in self.left_out(root, caplog)
        with pytest.raises(UserError, match="no regular file"):
            read_image(root / "a" / "pipe.png", 8)

    def test_tiff_gif_and_nested_folders_are_images_of_the_class(self, root, caplog):
        for name in ("1.tif", "2.TIFF", "3.gif", "deep/deeper/4.png", "deep/5.jpg"):
            write(root / "a" / name)
        assert self.left_out(root, caplog) == ""
        assert {"a/1.tif", "a/2.TIFF", "a/3.gif", "a/deep/deeper/4.png"} <= names(
            ImageFolder(root, 8)
        )

    def test_what_is_left_out_is_counted_by_its_reason(self, root, caplog):
        (root / "a" / "notes.txt").write_text("")
        (root / "a" / "more.txt").write_text("")
        (root / "b" / "video.mp4").write_bytes(b"")
        (root / "b" / "gone.png").symlink_to(root / "nowhere.png")
        (root / "beside.png").write_bytes(b"")
        words = self.left_out(root, caplog)
        for part in ("2 no image by its name (.txt)", "1 no image by its name (.mp4)",
                     "1 cannot be reached (No such file or directory)",
                     "1 beside the class folders"):  # fmt: skip
            assert part in words

    def test_links_that_lead_in_circles(self, root, caplog):
        (root / "a" / "self").symlink_to(root / "a")
        (root / "a" / "up").symlink_to(root)
        (root / "a" / "loop").symlink_to(root / "a" / "loop")
        for one in ("x", "y"):  # two folders with links to each other: 2^n paths
            (root / "b" / one).mkdir()
        for number in range(20):
            (root / "b" / "x" / f"to_y{number}").symlink_to(root / "b" / "y")
            (root / "b" / "y" / f"to_x{number}").symlink_to(root / "b" / "x")
        assert "a link to a folder that is gone through already" in self.left_out(root, caplog)
        assert len(names(ImageFolder(root, 8))) == 10

    def test_a_linked_class_and_linked_images_count(self, root, tmp_path_factory):
        elsewhere = tmp_path_factory.mktemp("elsewhere")
        two_classes(elsewhere)
        (root / "c").symlink_to(elsewhere / "a")
        (root / "a" / "linked.png").symlink_to(elsewhere / "b" / "1.png")
        assert {"c/0.png", "a/linked.png"} <= names(ImageFolder(root, 8))

    @pytest.mark.parametrize("side", [10_000, 20_000])
    def test_an_image_bomb_is_named_and_not_unpacked(self, root, side):
        """10,000 pixels a side: Pillow would only warn, and take 300 MB."""
        bomb(root / "a" / "bomb.png", side)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with pytest.raises(UserError, match=r"bomb\.png: not an image that can be read"):
                read_image(root / "a" / "bomb.png", 8)

    def test_what_is_no_photograph_is_not_decoded_by_its_content(self, root):
        """Pillow knows PostScript by its content, and starts Ghostscript for it."""
        content = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n"
        (root / "a" / "page.png").write_bytes(content)
        with pytest.raises(UserError, match=r"page\.png: not an image"):
            read_image(root / "a" / "page.png", 8)

    def test_corrupt_images_are_named_together(self, root):
        for number in range(14):
            for part in ("train", "test"):
                for label in ("a", "b"):
                    write(root / part / label / f"{number}.png")
                (root / part / "a" / f"{number}.png").write_bytes(b"")
        source = ImageFolder(root, 8)
        for read in (source.train, source.test, source.prepare, lambda: source.mean):
            with pytest.raises(UserError) as caught:
                read()
            *named, rest = str(caught.value).splitlines()
            assert len(named) == 10
            assert len(set(named)) == 10
            assert all(".png: not an image" in line for line in named)
            assert rest == "and 4 more cannot be read"

    def test_an_empty_class_says_what_is_in_it(self, root):
        (root / "c").mkdir()
        (root / "c" / "1.heic").write_bytes(b"")
        with pytest.raises(UserError, match=r"c/ has no image \(1 no image by its name \(.heic\)"):
            ImageFolder(root, 8).prepare()

    def test_names_with_odd_characters(self, root, caplog):
        for name in ("new\nline.png", "tab\t.png", "[red]x[/].png", "$(rm).png", "'\".png"):
            write(root / "a" / name)
        Path(os.fsdecode(os.fsencode(root / "a") + b"/\xff\xfe.png")).write_bytes(
            (root / "a" / "0.png").read_bytes()
        )
        dataset = ImageFolder(root, 8)
        dataset.prepare()
        assert len(dataset.train()) + len(dataset.test()) == 16
        assert dataset.fingerprint()

    def test_a_file_that_cannot_be_shown_is_named_in_one_line(self, root):
        broken = Path(os.fsdecode(os.fsencode(root / "a") + b"/\xff\n.png"))
        broken.write_bytes(b"")
        with pytest.raises(UserError) as caught:
            read_image(broken, 8)
        assert len(str(caught.value).encode().splitlines()) == 1

    def test_a_class_whose_name_cannot_be_shown(self, root):
        write(root / "bad\nname" / "1.png")
        with pytest.raises(UserError, match="rename it"):
            ImageFolder(root, 8).prepare()


def encoded(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise((24, 17), 50).convert("RGB").save(buffer, kind)
    return buffer.getvalue()


SEEDS = {kind: encoded(kind) for kind in ("PNG", "JPEG", "BMP", "WEBP", "TIFF", "GIF")}
SUFFIXES = st.sampled_from([".png", ".jpg", ".bmp", ".webp", ".tif", ".gif"])
CONTENTS = st.one_of(
    st.sampled_from(list(SEEDS.values())),
    st.binary(max_size=64),
    st.tuples(st.sampled_from(list(SEEDS.values())), st.integers(0, 10_000)).map(
        lambda pair: pair[0][: pair[1] % (len(pair[0]) + 1)]
    ),
    st.tuples(
        st.sampled_from(list(SEEDS.values())),
        st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=6),
    ).map(lambda pair: _edited(*pair)),
)
NAMES = st.text(
    st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=20
).filter(lambda name: name not in (".", ".."))


def _edited(content: bytes, edits: list[tuple[int, int]]) -> bytes:
    changed = bytearray(content)
    for place, value in edits:
        changed[place % len(changed)] = value
    return bytes(changed)


@st.composite
def trees(draw):
    """{path below the root: content of a file, or a link's target}."""
    tree = {}
    for _ in range(draw(st.integers(0, 8))):
        parts = draw(st.lists(st.sampled_from(["a", "b", "train", "test"]) | NAMES, max_size=3))
        name = draw(NAMES | st.just("x")) + draw(SUFFIXES | st.just("") | st.just(".txt"))
        target = st.sampled_from([".", "..", "../..", "nowhere", "/dev/zero", "/dev/null", "/"])
        tree["/".join([*parts, name])] = draw(CONTENTS | target)
    return tree


@settings(
    max_examples=120, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
@given(tree=trees(), with_classes=st.booleans())
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_any_folder_is_read_or_refused_in_words(tmp_path_factory, tree, with_classes):
    """Whatever lies in it: images that fit, or one to three lines; no other exception, no hang."""
    root = tmp_path_factory.mktemp("images")
    if with_classes:
        two_classes(root)
    for path, content in tree.items():
        try:
            target = root / path
            target.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, bytes):
                target.write_bytes(content)
            elif content != "/":  # links out of the folder go on for ever in another way
                target.symlink_to(content)
        except OSError:
            continue  # no such name on this disk, or a file where a folder is wanted
    dataset = ImageFolder(root, 8)
    refusal = ""
    try:
        dataset.prepare()
        train, test = dataset.train(), dataset.test()
        _ = dataset.mean
    except UserError as error:
        refusal = str(error)
    if refusal:
        assert len(refusal.splitlines()) <= 3
        refusal.encode()  # it can be printed anywhere
        return
    assert dataset.fingerprint() == ImageFolder(root, 8).fingerprint()
    for part in (train, test):
        assert part.images.shape == (len(part.labels), 8, 8, 3)
        assert len(part.labels) > 0
    assert set(train.labels) == set(range(len(dataset.classes)))


class TestMasks:
    def folder(self, root: Path) -> Path:
        for part in ("train", "test"):
            for name in ("cat", "dog"):
                write(root / "images" / part / name / "1.jpg", size=(40, 20))
        for name in ("cat", "dog"):
            path = root / "masks" / "test" / name / "1.png"
            path.parent.mkdir(parents=True)
            mask = np.zeros((20, 40), np.uint8)
            mask[:, 10:20] = 7
            Image.fromarray(mask).save(path)
        return root / "images"

    def test_a_mask_is_cropped_and_resized_as_its_image(self, tmp_path):
        source = ImageFolder(self.folder(tmp_path), 10, masks=tmp_path / "masks")
        source.prepare()
        masks = source.test().masks
        assert masks.shape == (2, 10, 10)
        # The middle 20 of 40 columns are kept, of which the first half is the object.
        assert masks[:, :, :5].all()
        assert not masks[:, :, 5:].any()
        assert source.train().masks is None

    @pytest.mark.parametrize("turned", [False, True], ids=["upright", "turned"])
    def test_the_mask_of_a_turned_photo_is_upright_or_turned_itself(self, tmp_path, turned):
        root, mask = self.folder(tmp_path), np.zeros((40, 20), np.uint8)
        mask[10:20] = 7
        write_turned(root / "test" / "cat" / "1.jpg", Image.new("RGB", (20, 40)))
        path = tmp_path / "masks" / "test" / "cat" / "1.png"
        if turned:
            write_turned(path, Image.fromarray(mask))
        else:
            Image.fromarray(mask).save(path)
        source = ImageFolder(root, 10, masks=tmp_path / "masks")
        source.prepare()
        cat, _dog = source.test().masks
        # The middle 20 of 40 rows are kept, of which the upper half is the object.
        assert cat[:5].all()
        assert not cat[5:].any()

    def test_an_image_without_a_mask_is_named_and_where_it_would_be(self, tmp_path):
        root = self.folder(tmp_path)
        (tmp_path / "masks" / "test" / "dog" / "1.png").unlink()
        source = ImageFolder(root, 10, masks=tmp_path / "masks")
        with pytest.raises(UserError, match=r"1 of 2 test images have no mask.*test/dog/1\.jpg"):
            source.prepare()

    def test_a_mask_of_another_size_is_refused(self, tmp_path):
        root = self.folder(tmp_path)
        write(tmp_path / "masks" / "test" / "cat" / "1.png", size=(20, 40))
        source = ImageFolder(root, 10, masks=tmp_path / "masks")
        with pytest.raises(UserError, match=r"20x40 pixels do not fit its image, which has 40x20"):
            source.prepare()
