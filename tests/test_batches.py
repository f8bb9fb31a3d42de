"""BatchTranslator: the cells of a table translated in place, in the form that they had, alike in every process."""
import io
import json
import multiprocessing
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import mmcycle
from mmcycle.errors import RecordingError, UserError
from mmcycle.generate.batches import BatchTranslator
from mmcycle.generate.manifest import item_seed, read_rows
from mmcycle.generate.shard import Share
from mmcycle.generate.translator import Translation, Translator
from mmcycle.modalities.sound_files import Sound, read_sound, write_sound
from tiny_models import IMAGE, SOUND, untrained

pytestmark = pytest.mark.usefixtures("one_thread")


class Numbers:
    """A sensor of one row of floats; -1 is none of its own."""

    suffixes = (".num",)

    def from_array(self, array: np.ndarray, rate: int | None = None) -> np.ndarray | None:
        return array if array.dtype == np.float32 and array.ndim == 1 else None

    def to_array(self, raw: np.ndarray, like: np.ndarray) -> np.ndarray:
        return raw


@dataclass
class Adder:
    """Adds the strength, and tells the seed in the second place."""

    stochastic: bool = True
    source = target = Numbers()

    def perform(self, raw: np.ndarray, strength: float = 1.0, seed: int = 0) -> Translation:
        if raw[0] < 0:
            raise ValueError("the author never saw this")
        return Translation(np.float32([raw[0] + strength, seed % 1000]), {})


def load(run: Path, direction: str, share: Share) -> Adder:
    return Adder()


def load_calm(run: Path, direction: str, share: Share) -> Adder:
    return Adder(stochastic=False)


def numbers(*values: float) -> np.ndarray:
    return np.float32([[value, 0] for value in values])


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def night(root: Path) -> Path:
    return untrained(root / "night.safetensors", IMAGE)


@pytest.fixture(scope="module")
def noisy(root: Path) -> Path:
    return untrained(root / "noisy.safetensors", SOUND | {"change": "noise"}, seed=1)


def pictures(count: int, size: tuple[int, ...] = (20, 26, 3), seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *size), dtype=np.uint8)


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def opened(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)))


def expected(model: Path, pixels: np.ndarray) -> np.ndarray:
    """The translation of one picture (H, W, C), asked of the model itself."""
    return np.asarray(Translator.load(model, device="cpu")(pixels))


def wave(samples: int = 2000, seed: int = 0) -> np.ndarray:
    return (0.2 * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)


def test_it_stands_at_the_top_and_importing_mmcycle_costs_nothing() -> None:
    assert mmcycle.BatchTranslator is BatchTranslator
    with pytest.raises(AttributeError, match="module 'mmcycle' has no attribute 'BatchTranslators'"):
        mmcycle.BatchTranslators
    code = "import sys, mmcycle; raise SystemExit('torch' in sys.modules or 'mmcycle.generate' in sys.modules)"
    assert os.spawnv(os.P_WAIT, shutil.which("python") or "", ["python", "-c", code]) == 0


def test_a_column_is_translated_and_the_others_stay(night: Path) -> None:
    pixels = pictures(3)
    batch = {"image": pixels, "label": np.array([4, 5, 6]), "name": ["a", "b", "c"]}
    made = BatchTranslator({"image": f"{night}:ab"})(batch)
    assert list(made) == list(batch) and made["label"] is batch["label"] and made["name"] is batch["name"]
    assert made["image"].shape == pixels.shape and made["image"].dtype == np.uint8
    for one, before in zip(made["image"], pixels, strict=True):
        np.testing.assert_array_equal(one, expected(night, before))


FORMS: dict[str, tuple[Callable[[np.ndarray], Any], Callable[[Any], np.ndarray]]] = {
    "array": (lambda pixels: pixels, lambda cell: cell),
    "bands first": (lambda pixels: pixels.transpose(2, 0, 1), lambda cell: cell.transpose(1, 2, 0)),
    "Pillow": (Image.fromarray, np.asarray),
    "bytes": (png, opened),
    "file": (lambda pixels: {"bytes": png(pixels), "path": "a/b.png"}, lambda cell: opened(cell["bytes"])),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_picture_keeps_its_form(night: Path, form: str) -> None:
    there, back = FORMS[form]
    pixels = pictures(1)[0]
    made = BatchTranslator({"image": night})({"image": [there(pixels)]})["image"]
    assert type(made) is list and type(made[0]) is (Image.Image if form == "Pillow" else type(there(pixels)))
    np.testing.assert_array_equal(back(made[0]), expected(night, pixels))
    if form == "file":
        assert made[0]["path"] == "a/b.png"


@pytest.mark.parametrize(("cell", "shape"), [
    (pictures(1, (20, 26))[0], (20, 26)),
    (pictures(1, (20, 26)).astype(np.float64)[0] / 255, (20, 26)),
    ((pictures(1, (20, 26, 3)).astype(np.uint16) * 257)[0], (20, 26, 3)),
    (Image.fromarray(pictures(1, (20, 26))[0]), (20, 26)),
])
def test_gray_and_deep_pictures_keep_shape_and_depth(night: Path, cell: Any, shape: tuple[int, ...]) -> None:
    made = BatchTranslator({"image": night})({"image": [cell]})["image"][0]
    assert np.asarray(made).shape == shape and np.asarray(made).dtype == np.asarray(cell).dtype
    assert not np.array_equal(np.asarray(made), np.asarray(cell))


def test_pictures_of_many_sizes_lie_in_an_array_of_objects(night: Path) -> None:
    column = np.empty(2, object)
    column[:] = [pictures(1, (20, 26, 3))[0], pictures(1, (24, 22, 3))[0]]
    made = BatchTranslator({"image": night})({"image": column})["image"]
    assert made.dtype == object and [one.shape for one in made] == [(20, 26, 3), (24, 22, 3)]
    content = np.array([png(pictures(1)[0])] * 2, object)
    assert [type(one) for one in BatchTranslator({"image": night})({"image": content})["image"]] == [bytes, bytes]


def test_nothing_stays_nothing(night: Path) -> None:
    made = BatchTranslator({"image": night})({"image": [None, png(pictures(1)[0])]})["image"]
    assert made[0] is None and opened(made[1]).shape == (20, 26, 3)
    assert BatchTranslator({"image": night})({"image": []}) == {"image": []}


def test_sound_is_a_wave_with_its_rate_an_array_a_list_or_a_file(noisy: Path, tmp_path: Path) -> None:
    samples = wave()
    write_sound(Sound(samples[:, None], 8000, "FLOAT"), tmp_path / "a.wav")
    cells = [{"array": samples, "sampling_rate": 8000, "path": None}, samples, samples.tolist(),
             {"bytes": (tmp_path / "a.wav").read_bytes(), "path": None}]
    act = BatchTranslator({"audio": noisy}, "key", seed=3)
    made = act({"audio": cells, "key": ["same"] * 4})["audio"]
    model = Translator.load(noisy, device="cpu")
    wanted = model(Sound(samples[:, None], 8000, "FLOAT"), seed=item_seed(3, "same", 0)).samples[:, 0]
    assert not np.array_equal(wanted, samples)
    assert made[0]["sampling_rate"] == 8000 and type(made[2]) is list
    (tmp_path / "b.wav").write_bytes(made[3]["bytes"])
    for found in (made[0]["array"], made[1], np.float32(made[2]), read_sound(tmp_path / "b.wav", 60).samples[:, 0]):
        np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_a_wave_without_a_rate_takes_that_of_its_column(noisy: Path) -> None:
    told = BatchTranslator({"audio": noisy}, "key", rates={"audio": 16000})
    own = BatchTranslator({"audio": noisy}, "key")
    samples = wave()
    made = told({"audio": [samples], "key": ["a"]})["audio"][0]
    same = own({"audio": [{"array": samples, "sampling_rate": 16000}], "key": ["a"]})["audio"][0]["array"]
    np.testing.assert_array_equal(made, same)
    assert not np.array_equal(made, own({"audio": [samples], "key": ["a"]})["audio"][0])


def test_the_streams_of_a_row_are_those_that_generate_writes(night: Path, noisy: Path, tmp_path: Path) -> None:
    from mmcycle.generate.dataset import generate

    (tmp_path / "set/pictures").mkdir(parents=True)
    (tmp_path / "set/sounds").mkdir()
    lines = []
    for number in range(2):
        picture, sound = f"pictures/{number}.png", f"sounds/{number}.wav"
        (tmp_path / "set" / picture).write_bytes(png(pictures(1, seed=number)[0]))
        write_sound(Sound(wave(seed=number)[:, None], 8000, "PCM_16"), tmp_path / "set" / sound)
        lines.append({"key": f"moment {number}", "streams": {"camera": picture, "audio": sound}})
    (tmp_path / "set/streams.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    runs = {"camera": str(night), "audio": str(noisy)}
    generate(tmp_path / "set", tmp_path / "out", runs, seed=7)
    batch = {"name": [line["key"] for line in lines]}
    batch |= {stream: [(tmp_path / "set" / line["streams"][stream]).read_bytes() for line in lines] for stream in runs}
    made = BatchTranslator(runs, "name", seed=7)(batch)
    for number, row in enumerate(read_rows(tmp_path / "out")):
        for stream in runs:
            assert made[stream][number] == (tmp_path / "out" / row.streams[stream].output).read_bytes()


def test_a_row_is_translated_alike_in_any_batch_and_differently_in_another_copy(tmp_path: Path) -> None:
    act = BatchTranslator({"x": tmp_path}, "key", strength=(0.2, 0.9), load=load)
    whole = act({"x": numbers(1, 2, 3), "key": np.array(["a", "b", "c"])})["x"]
    parts = [act({"x": numbers(value), "key": [key]})["x"][0] for value, key in ((3, "c"), (1, "a"), (2, "b"))]
    np.testing.assert_array_equal(whole, [parts[1], parts[2], parts[0]])
    assert [row[1] for row in whole] == [item_seed(0, key, 0) % 1000 for key in "abc"]
    drawn = [row[0] - value for row, value in zip(whole, (1, 2, 3), strict=True)]
    assert len(set(drawn)) == 3 and all(0.2 <= one <= 0.9 for one in drawn)
    other = BatchTranslator({"x": tmp_path}, "key", copy=1, load=load)({"x": numbers(1), "key": ["a"]})["x"]
    assert other[0, 0] == 2 and other[0, 1] == item_seed(0, "a", 1) % 1000 != whole[0, 1]
    with_numbers = BatchTranslator({"x": tmp_path}, "key", load=load)({"x": numbers(1), "key": np.array([17])})["x"]
    assert with_numbers[0, 1] == item_seed(0, "17", 0) % 1000


def test_another_process_loads_its_own_models(tmp_path: Path) -> None:
    act = BatchTranslator({"x": tmp_path}, "key", load=load)
    batch = {"x": numbers(1, 2), "key": ["a", "b"]}
    here = act(batch)["x"]
    assert act._translators and not act.__getstate__()["_translators"]
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        np.testing.assert_array_equal(pool.apply(act, (batch,))["x"], here)


def test_models_are_loaded_once_and_in_turn_by_the_rank(tmp_path: Path) -> None:
    shares: list[Share] = []

    def counted(run: Path, direction: str, share: Share) -> Adder:
        shares.append(share)
        return Adder()

    act = BatchTranslator({"x": tmp_path, "y": f"{tmp_path}:ba"}, "key", load=counted)
    for _ in range(3):
        act({"x": numbers(1), "y": numbers(1), "key": ["a"]}, 5)
    assert shares == [Share(5, max(torch.cuda.device_count(), 1))] * 2


def test_a_run_that_was_trained_on_is_another_translator(tmp_path: Path) -> None:
    (tmp_path / "run/checkpoints/step-1").mkdir(parents=True)
    before = BatchTranslator({"x": tmp_path / "run"}, load=load).__getstate__()
    assert before == BatchTranslator({"x": tmp_path / "run"}, load=load).__getstate__()
    (tmp_path / "run/checkpoints/step-2").mkdir()
    assert before != BatchTranslator({"x": tmp_path / "run"}, load=load).__getstate__()


@pytest.mark.parametrize(("arguments", "message"), [
    ({"with_": {}}, "name a column with its run"),
    ({"with_": "runs/night"}, "name a column with its run"),
    ({"with_": {"x": "nowhere:ab"}}, "x=nowhere:ab: there is no run at nowhere"),
    ({"strength": 1.5}, r"strength is 1.5; it lies in \[0, 1\]"),
    ({"strength": (0.5, 0.2)}, "the lower end first"),
    ({"strength": float("nan")}, "strength is nan"),
    ({"rates": {"y": 8000}}, "rates or dtypes name 'y'; translated are 'x'"),
    ({"dtypes": {"y": "uint8"}}, "rates or dtypes name 'y'"),
])
def test_what_cannot_be_meant_is_refused_at_once(tmp_path: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        BatchTranslator(**({"with_": {"x": tmp_path}, "load": load} | arguments))


@pytest.mark.parametrize(("batch", "message"), [
    ({"y": numbers(1), "key": ["a"]}, "there is no column 'x', only 'y', 'key'"),
    ({"x": numbers(1), "keys": ["a"]}, "there is no column 'key', only 'x', 'keys'. Did you mean 'keys'?"),
    ([numbers(1)], "a batch is a dict of columns, not list"),
    ({"x": numbers(1), "key": [None]}, "column 'x' of None: a row without a name in column 'key' has no seed"),
    ({"x": numbers(1), "key": [float("nan")]}, "column 'x' of nan: a row without a name"),
    ({"x": [[1, 2]], "key": ["a"]}, r"column 'x' of a: an array \(2,\) of int64 is none for Numbers; whole numbers"),
    ({"x": [{"a": 1}], "key": ["a"]}, "column 'x' of a: is dict; a cell is a picture of Pillow"),
    ({"x": [7], "key": ["a"]}, "column 'x' of a: is int; a cell is"),
    ({"x": numbers(-1), "key": ["a"]}, "column 'x' of a: could not be translated: ValueError: the author never saw"),
    ({"x": [b"RIFF"], "key": ["a"]}, "column 'x' of a: is a file .bin; Numbers reads .num"),
])
def test_a_batch_that_cannot_be_translated_names_column_and_row(tmp_path: Path, batch: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        BatchTranslator({"x": tmp_path}, "key", load=load)(batch)


def test_what_is_drawn_needs_names(tmp_path: Path) -> None:
    for act in (BatchTranslator({"x": tmp_path}, load=load),
                BatchTranslator({"x": tmp_path}, strength=(0, 1), load=load_calm)):
        with pytest.raises(UserError, match="what is drawn for a row is drawn by its name"):
            act({"x": numbers(1)})
    assert BatchTranslator({"x": tmp_path}, load=load_calm)({"x": numbers(1)})["x"][0, 0] == 2


def test_a_broken_file_is_refused_without_the_name_of_a_temporary_one(night: Path) -> None:
    with pytest.raises(RecordingError, match=r"^column 'image' of 7: recording.png: ") as error:
        BatchTranslator({"image": night}, "id")({"image": [png(pictures(1)[0])[:200]], "id": [7]})
    assert "/" not in str(error.value)
    with pytest.raises(UserError, match="column 'image': a picture of mode 'RGBA' cannot be taken; convert it"):
        BatchTranslator({"image": night})({"image": [Image.new("RGBA", (20, 20))]})
    with pytest.raises(UserError, match="outside 0 to 1"):
        BatchTranslator({"image": night})({"image": [np.full((20, 20, 3), 9, np.float32)]})


def test_files_that_are_only_named_are_opened_below_root_alone(night: Path, tmp_path: Path) -> None:
    pixels = pictures(1)[0]
    (tmp_path / "data").mkdir()
    for name in ("data/a.png", "secret.png"):
        (tmp_path / name).write_bytes(png(pixels))
    (tmp_path / "data/link.png").symlink_to(tmp_path / "secret.png")
    act = BatchTranslator({"image": night}, root=tmp_path / "data")
    for cell in ("a.png", str(tmp_path / "data/a.png"), {"bytes": None, "path": "a.png"}):
        made = act({"image": [cell]})["image"][0]
        np.testing.assert_array_equal(opened(made["bytes"]), expected(night, pixels))
    for name in ("../secret.png", str(tmp_path / "secret.png"), "link.png"):
        with pytest.raises(RecordingError, match="which lies outside .*data; it was not opened"):
            act({"image": [{"bytes": None, "path": name}]})
    with pytest.raises(RecordingError, match="b.png: cannot be read: No such file"):
        act({"image": ["b.png"]})
    with pytest.raises(RecordingError, match="names a file, 'a.png', and does not hold it; give root="):
        BatchTranslator({"image": night})({"image": ["a.png"]})


def test_a_model_of_two_sensors_takes_files_and_gives_files(root: Path) -> None:
    across = untrained(root / "across.safetensors", IMAGE, {"modality": "text", "length": 64})
    back = untrained(root / "back.safetensors", {"modality": "text", "length": 64}, IMAGE)
    content = png(pictures(1, (32, 32, 3))[0])
    said = BatchTranslator({"image": across})({"image": [{"bytes": content, "path": "a.png"}, content]})["image"]
    assert said[0]["path"] == "a.txt" and said[0]["bytes"].decode() and said[1] == said[0]["bytes"]
    captions = ["a red car", {"bytes": b"a dog", "path": "b.txt"}]
    seen = BatchTranslator({"caption": back})({"caption": captions})["caption"]
    assert opened(seen[0]).shape == (32, 32, 3) and seen[1]["path"].startswith("b.")
    with pytest.raises(UserError, match="this model makes Text of Image; give it files, as bytes"):
        BatchTranslator({"image": across})({"image": [Image.new("RGB", (32, 32))]})


@pytest.fixture
def datasets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    found = pytest.importorskip("datasets")
    found.disable_progress_bars()
    return found


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("processes", [None, 2])
def test_datasets_map(datasets: Any, night: Path, tmp_path: Path, processes: int | None) -> None:
    pixels = pictures(4)
    columns = {"image": [Image.fromarray(one) for one in pixels], "mask": [Image.fromarray(one) for one in pixels],
               "id": list("abcd")}
    features = datasets.Features({"image": datasets.Image(), "mask": datasets.Image(), "id": datasets.Value("string")})
    table = datasets.Dataset.from_dict(columns, features=features)
    table.save_to_disk(tmp_path / "table")
    table = datasets.load_from_disk(tmp_path / "table")
    act = mmcycle.BatchTranslator({"image": night}, key="id")
    made = table.map(act, batched=True, batch_size=2, with_rank=processes is not None, num_proc=processes)
    assert made.features == table.features and made["id"] == list("abcd")
    for number, before in enumerate(pixels):
        np.testing.assert_array_equal(np.asarray(made[number]["image"]), expected(night, before))
    raw = {name: data.cast_column("mask", datasets.Image(decode=False))[:]["mask"]
           for name, data in (("before", table), ("after", made))}
    assert raw["after"] == raw["before"]                # what is not translated is not written anew
    again = table.map(act, batched=True, batch_size=2, with_rank=processes is not None, num_proc=processes)
    assert again._fingerprint == made._fingerprint      # the models that were loaded since do not count


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_page_on_data_sets_translates_a_table(
    datasets: Any, night: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (Path(__file__).parents[1] / "docs/data_sets.md").read_text(encoding="utf-8").split("## Tables")[1]
    monkeypatch.chdir(tmp_path)
    Path("runs").mkdir()
    shutil.copy(night, "runs/night")
    pixels = pictures(2)
    table = {"image": [{"bytes": png(one), "path": None} for one in pixels], "id": [1, 2]}
    features = datasets.Features({"image": datasets.Image(), "id": datasets.Value("int64")})
    datasets.Dataset.from_dict(table, features=features).save_to_disk("day")
    exec(compile(page.split("```python\n")[1].split("```")[0], "docs/data_sets.md", "exec"), {})
    made = datasets.load_from_disk("night")
    assert np.array_equal(np.asarray(made[1]["image"]), expected(night, pixels[1])) and made["id"] == [1, 2]


def test_datasets_with_arrays(datasets: Any, night: Path) -> None:
    pixels = pictures(3)
    features = datasets.Features({"image": datasets.Array3D((20, 26, 3), "uint8"), "id": datasets.Value("int64")})
    table = datasets.Dataset.from_dict({"image": pixels, "id": [1, 2, 3]}, features=features).with_format("numpy")
    wanted = [expected(night, one) for one in pixels]
    made = table.map(BatchTranslator({"image": night}, key="id", dtypes={"image": "uint8"}), batched=True)
    np.testing.assert_array_equal(made[:]["image"], wanted)
    listed = BatchTranslator({"image": night}, dtypes={"image": "uint8"})({"image": pixels.tolist()})["image"]
    assert listed == [one.tolist() for one in wanted]
    with pytest.raises(RecordingError, match="whole numbers from 0 to 300 does not fit into uint8"):
        BatchTranslator({"image": night}, dtypes={"image": "uint8"})({"image": [[[0, 300]]]})


@pytest.fixture(scope="module")
def ray_data() -> Iterator[Any]:
    ray = pytest.importorskip("ray")
    data = pytest.importorskip("ray.data")
    tests = Path(__file__).parent
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(tests), str(tests.parent)]))
        patch.delenv("RAY_ADDRESS", raising=False)
        try:
            ray.init("local", num_cpus=2, object_store_memory=80 * 2**20, include_dashboard=False, log_to_driver=False)
        except Exception as error:
            pytest.skip(f"this machine is too busy to start Ray: {error}")
        data.DataContext.get_current().enable_progress_bars = False
        yield data
        ray.shutdown()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_ray_map_batches(ray_data: Any, night: Path) -> None:
    pixels = pictures(6)
    table = ray_data.from_items([{"image": one, "id": number} for number, one in enumerate(pixels)])
    made = table.map_batches(
        mmcycle.BatchTranslator, fn_constructor_args=({"image": str(night)}, "id"), batch_size=2,
        compute=ray_data.ActorPoolStrategy(size=2), num_cpus=0.5,
    )
    rows = sorted(made.take_all(), key=lambda row: row["id"])
    assert [row["id"] for row in rows] == list(range(6))
    for row, before in zip(rows, pixels, strict=True):
        np.testing.assert_array_equal(row["image"], expected(night, before))
