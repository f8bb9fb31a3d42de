"""The laws of the house, read from the code: who may import whom, what is never called, how long a thing may be.

Each law is a function from one module's tree to sentences; each is shown to catch what it forbids.
"""
import ast
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

PACKAGE = Path(__file__).parents[1] / "mmcycle"


class Module(NamedTuple):
    """name is dotted and without "mmcycle"; the package's __init__ has the name of its folder."""

    name: str
    text: str
    is_package: bool = False

    @property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @property
    def folder(self) -> str:
        return self.name.split(".")[0]


def modules() -> list[Module]:
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        is_package = parts[-1] == "__init__"
        found.append(Module(".".join(parts[:-1] if is_package else parts), path.read_text(encoding="utf-8"), is_package))
    return found


# Who may import whom

LEVELS = [                                              # a module imports from its own line or from above it
    {"errors", "files", "lock", "interruption", "plugins", "progress"},
    {"core"},
    {"modality", "modalities"},
    {"config", "strict_yaml", "mistakes", "schema", "recipe", "data", "transforms"},
    {"train", "generate", "report", "simulate", "metrics", "laws", "testing"},
    {"cli", "doctor"},
    {"__main__"},
]
FROM_TRAIN = ("generate", "train.checkpoint")           # nobody but the command line knows training, except for this


def level(name: str) -> int:
    folder = name.split(".")[0]
    return next((number for number, folders in enumerate(LEVELS) if folder in folders), -1)


def imports(module: Module) -> Iterator[str]:
    """Dotted names below mmcycle that are imported at run time, anywhere in the module; "" is the package itself."""
    package = ["mmcycle", *module.name.split(".")] if module.name else ["mmcycle"]
    package = package if module.is_package else package[:-1]
    for node in running(module.tree):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            targets = [f"{base}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (target.removeprefix("mmcycle").lstrip(".") for target in targets if target.split(".")[0] == "mmcycle")


def running(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node but those that only a type checker reads."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        yield from running(node)


def wrong_imports(module: Module) -> Iterator[str]:
    own = level(module.name)
    if module.name and own < 0:
        yield f"{module.name}: give it a level in LEVELS"
    for target in imports(module):
        if not target or target == "__version__":
            continue
        if target.split(".")[0] == "modalities" and module.folder != "modalities":
            yield f"{module.name} imports {target}: only find_modality may"
        elif level(target) > own and module.name:
            yield f"{module.name} imports {target}, which stands above it"
        elif target.split(".")[0] == "train" and module.folder not in ("train", *LEVELS[-2]):
            if not (module.folder == FROM_TRAIN[0] and f"{target}.".startswith(f"{FROM_TRAIN[1]}.")):
                yield f"{module.name} imports {target}: only {' may import '.join(FROM_TRAIN)}"


# What is never called

FORBIDDEN = {
    "pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "torch.load", "torch.hub", "torch.utils.model_zoo",
    "eval", "exec", "compile", "__import__", "yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.full_load", "extractall",
    "os.system", "os.popen", "importlib.reload", "numpy.frompyfunc",
}
FORBIDDEN_OPTIONS = {"shell": True, "allow_pickle": True, "weights_only": False, "trust_remote_code": True}
FOR_MODULES_ONLY = {"eval", "compile", "exec"}          # network.eval(), re.compile() and torch.compile() are other things


def dangers(module: Module) -> Iterator[str]:
    for node in ast.walk(module.tree):
        for name in spoken(node):
            if any(name == word or name.startswith(word + ".") or name.endswith("." + word) for word in FORBIDDEN - FOR_MODULES_ONLY):
                yield f"{module.name}:{node.lineno} speaks of {name}"
            elif name in FOR_MODULES_ONLY or name.startswith("builtins."):
                yield f"{module.name}:{node.lineno} speaks of {name}"
        if isinstance(node, ast.keyword) and isinstance(node.value, ast.Constant) and node.arg in FORBIDDEN_OPTIONS:
            if node.value.value == FORBIDDEN_OPTIONS[node.arg]:
                yield f"{module.name}:{node.value.lineno} sets {node.arg}={node.value.value}"


def spoken(node: ast.AST) -> list[str]:
    """The dotted names that a node uses or brings in."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
    if isinstance(node, ast.Attribute):
        return [ast.unparse(node)]
    return [node.id] if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) else []


# The core and everything but modalities serve every sensor alike

SENSORS = ("image", "audio", "lidar", "radar", "video")


def knows_sensors(module: Module) -> Iterator[str]:
    if module.folder == "core":
        for number, line in enumerate(module.text.splitlines(), start=1):
            if any(word in line.lower() for word in SENSORS):
                yield f"{module.name}:{number} names a sensor: {line.strip()}"
    if module.folder == "modalities":
        return
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            if node.func.id == "hasattr":
                yield f"{module.name}:{node.lineno} asks hasattr"
            if node.func.id == "isinstance" and len(node.args) == 2:
                asked, kinds = (ast.unparse(argument) for argument in node.args)
                if asked.lower().endswith("modality") or any(kind in sensor_classes() for kind in words(kinds)):
                    yield f"{module.name}:{node.lineno} asks isinstance({asked}, {kinds})"


def words(text: str) -> list[str]:
    return "".join(letter if letter.isalnum() or letter == "_" else " " for letter in text).split()


@cache
def sensor_classes() -> frozenset[str]:
    """Every class that derives from Modality, by name, and Modality itself."""
    known = {"Modality"}
    trees = [module.tree for module in modules() if module.folder in ("modality", "modalities")]
    for _ in range(3):                                  # a sensor of a sensor of a sensor
        for tree in trees:
            for node in ast.walk(tree):
                if isinstance(node, ast.ClassDef) and known & {ast.unparse(base).split(".")[-1] for base in node.bases}:
                    known.add(node.name)
    return frozenset(known)


# Torch is not paid for by what does not compute

LIGHT = {
    "config", "strict_yaml", "mistakes", "schema", "recipe", "modality", "modalities.image", "modalities.audio",
    "modalities.sound_files", "modalities.sound_clips", "data.layouts", "data.records", "data.labels", "generate.manifest", "cli", "errors", "files", "lock", "core.settings", "",
}
HEAVY = {"torch", "torchvision", "torchaudio"}
HEAVIEST = {"open3d", "librosa", "av", "onnx", "onnxruntime", "onnxscript", "ray", "webdataset", "datasets", "huggingface_hub", "torchmetrics"}


def at_module_level(module: Module) -> Iterator[str]:
    """First words of what is imported when the module is."""
    for node in running_at_once(module.tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and not node.level and node.module:
            names = [node.module]
        yield from (name.split(".")[0] for name in names)


def running_at_once(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        yield from running_at_once(node)


def heavy_imports(module: Module) -> Iterator[str]:
    light = any(module.name == name or (name and module.name.startswith(name + ".")) for name in LIGHT)
    for name in at_module_level(module):
        if name in HEAVIEST or (light and name in HEAVY):
            yield f"{module.name} imports {name} at module level"


# How long a thing may be, and how it is called

LONGEST_FILE, LONGEST_FUNCTION = 400, 60
NO_NOUN = {"utils", "util", "common", "base", "helpers", "helper", "misc"}


def shapeless(module: Module) -> Iterator[str]:
    lines = module.text.count("\n") + 1
    if lines > LONGEST_FILE + 1:
        yield f"{module.name} has {lines} lines"
    if module.name.split(".")[-1] in NO_NOUN:
        yield f"{module.name} is not about one noun"
    if ast.get_docstring(module.tree) is None:
        yield f"{module.name} does not say what it is"
    for node in ast.walk(module.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno - node.lineno + 1 > LONGEST_FUNCTION:
            yield f"{module.name}.{node.name} has {node.end_lineno - node.lineno + 1} lines"


def asserts(module: Module) -> Iterator[str]:
    yield from (f"{module.name}:{node.lineno} asserts" for node in ast.walk(module.tree) if isinstance(node, ast.Assert))


def bare_excepts(module: Module) -> Iterator[str]:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ExceptHandler) and node.type is None:
            yield f"{module.name}:{node.lineno} catches everything"


LAWS = [wrong_imports, dangers, knows_sensors, heavy_imports, shapeless, asserts, bare_excepts]


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_the_package_keeps_the_law(law: Callable[[Module], Iterator[str]]):
    assert [sentence for module in modules() for sentence in law(module)] == []


def test_the_whole_package_is_read():
    names = {module.name for module in modules()}
    assert {"", "core", "core.nets", "core.model", "modality", "modalities.image", "config", "train.trainer", "generate.translator"} <= names
    assert {"Modality", "Image"} <= sensor_classes()


DOC = '"""x"""\n'
CAUGHT = [
    (wrong_imports, "core.nets", "from mmcycle.modality import Modality", "stands above"),
    (wrong_imports, "core.nets", "import mmcycle.config", "stands above"),
    (wrong_imports, "core.nets", "from .. import modality", "stands above"),
    (wrong_imports, "core.nets", "from ..train import trainer", "stands above"),
    (wrong_imports, "core.nets", "def f():\n    from mmcycle import train", "stands above"),
    (wrong_imports, "files", "from mmcycle.core.settings import STRICT", "stands above"),
    (wrong_imports, "data.samplers", "from mmcycle.train.trainer import train", "stands above"),
    (wrong_imports, "train.trainer", "from mmcycle import cli", "stands above"),
    (wrong_imports, "generate.shard", "from mmcycle.train.trainer import train", "only generate may import train.checkpoint"),
    (wrong_imports, "generate.shard", "from mmcycle.train import checkpoints", "only generate may import train.checkpoint"),
    (wrong_imports, "report.run", "from mmcycle.train import checkpoint", "only generate may import train.checkpoint"),
    (wrong_imports, "metrics.downstream", "import mmcycle.train", "only generate may import train.checkpoint"),
    (wrong_imports, "config", "from mmcycle.modalities.image import Image", "only find_modality may"),
    (wrong_imports, "cli", "import mmcycle.modalities.image", "only find_modality may"),
    (wrong_imports, "cli", "from .modalities import image", "only find_modality may"),
    (wrong_imports, "novelty", "", "give it a level"),
    (dangers, "x", "import pickle", "pickle"),
    (dangers, "x", "from pickle import loads", "pickle"),
    (dangers, "x", "import joblib.externals", "joblib"),
    (dangers, "x", "torch.load(path)", "torch.load"),
    (dangers, "x", "from torch import load", "torch.load"),
    (dangers, "x", "torch.hub.load('a', 'b')", "torch.hub"),
    (dangers, "x", "eval('1')", "eval"),
    (dangers, "x", "exec('1')", "exec"),
    (dangers, "x", "f = eval", "eval"),
    (dangers, "x", "builtins.exec('1')", "exec"),
    (dangers, "x", "__import__('os')", "__import__"),
    (dangers, "x", "yaml.load(text, Loader=yaml.SafeLoader)", "yaml.load"),
    (dangers, "x", "archive.extractall(folder)", "extractall"),
    (dangers, "x", "subprocess.run('ls', shell=True)", "shell=True"),
    (dangers, "x", "os.system('ls')", "os.system"),
    (dangers, "x", "from os import system", "os.system"),
    (dangers, "x", "np.load(path, allow_pickle=True)", "allow_pickle=True"),
    (knows_sensors, "core.nets", "# an image is three channels", "names a sensor"),
    (knows_sensors, "core.nets", "LIDAR = 2", "names a sensor"),
    (knows_sensors, "train.step", "hasattr(modality, 'flip')", "asks hasattr"),
    (knows_sensors, "train.step", "isinstance(x, Image)", "asks isinstance"),
    (knows_sensors, "train.step", "isinstance(x, (str, image.Image))", "asks isinstance"),
    (knows_sensors, "train.step", "isinstance(config.a.modality, str)", "asks isinstance"),
    (heavy_imports, "config", "import torch", "imports torch"),
    (heavy_imports, "data.layouts.coco", "from torch import nn", "imports torch"),
    (heavy_imports, "core.nets", "import open3d as o3d", "imports open3d"),
    (heavy_imports, "cli", "try:\n    import torch\nexcept ImportError:\n    pass", "imports torch"),
    (shapeless, "data.utils", "", "not about one noun"),
    (shapeless, "long", "x = 1\n" * 401, "has 40"),
    (shapeless, "long", "def f():\n" + "    x = 1\n" * 60, "f has 61 lines"),
    (asserts, "x", "assert x", "asserts"),
    (bare_excepts, "x", "try:\n    x\nexcept:\n    x", "catches everything"),
]


@pytest.mark.parametrize("law, name, text, word", CAUGHT, ids=lambda value: value.__name__ if callable(value) else None)
def test_what_is_forbidden_is_caught(law, name, text, word):
    found = list(law(Module(name, DOC + text)))
    assert found and word in found[0]


def test_a_module_without_a_docstring_is_caught():
    assert list(shapeless(Module("x", "import os"))) == ["x does not say what it is"]


FINE = [
    (wrong_imports, "core.model", "if TYPE_CHECKING:\n    from mmcycle.modality import Modality"),
    (wrong_imports, "generate.translator", "from mmcycle.train import checkpoint"),
    (wrong_imports, "generate.translator", "from mmcycle import __version__"),
    (wrong_imports, "modalities.image", "from mmcycle.modalities.picture_files import read_picture"),
    (wrong_imports, "train.step", "from .checkpoint import Checkpoint"),
    (wrong_imports, "cli", "from mmcycle.train.trainer import train"),
    (dangers, "x", "network.eval()\nre.compile('x')\ntorch.compile(f)\nyaml.safe_load(text)\nfile.load(path)"),
    (dangers, "x", "subprocess.run(['ls'], shell=False)"),
    (knows_sensors, "core.nets", "isinstance(layer, nn.Conv2d)"),
    (knows_sensors, "modalities.image", "hasattr(picture, 'x')"),
    (heavy_imports, "config", "if TYPE_CHECKING:\n    import torch\ndef f():\n    import torch"),
]


@pytest.mark.parametrize("law, name, text", FINE, ids=lambda value: value.__name__ if callable(value) else None)
def test_what_is_allowed_is_not_caught(law, name, text):
    assert list(law(Module(name, DOC + text))) == []
