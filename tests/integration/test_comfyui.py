"""The ComfyUI nodes, loaded and run as ComfyUI loads and runs nodes, without its server."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from support_diffusion import MARKS, make_pipeline
from support_llm import make_model

from surd import adapter as adapters
from surd.adapter.encoding import adapt, encode, prompt_inputs
from surd.adapter.lora import LoraConfig, lora_of
from surd.adapter.module import Adapter, AdapterConfig, LanguageModel
from surd.errors import SurdError
from surd.models.names import identity

pytestmark = MARKS

NODES = Path(__file__).parents[2] / "integrations" / "comfyui"
NOT_IN_COMFYUI = "pyarrow pandas cv2 diffusers open_clip altair ftfy regex typer rich requests"


def comfyui(models: Path) -> dict[str, ModuleType]:
    """What nodes may import of it: folders of models, and where text encoders run."""
    folders: dict[str, list[str]] = {}
    paths = ModuleType("folder_paths")
    paths.models_dir = str(models)
    paths.add_model_folder_path = lambda name, path: folders.setdefault(name, []).append(path)
    paths.get_folder_paths = lambda name: folders[name][:]
    package, management = ModuleType("comfy"), ModuleType("comfy.model_management")
    management.text_encoder_device = lambda: torch.device("cpu")
    package.model_management = management
    return {"folder_paths": paths, "comfy": package, "comfy.model_management": management}


def load_nodes(folder: Path) -> ModuleType:
    """As ComfyUI loads a folder in custom_nodes."""
    spec = importlib.util.spec_from_file_location("surd_nodes", folder / "__init__.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Graph:
    """Checks and runs nodes as ComfyUI's executor does, with its gradients off."""

    def __init__(self, nodes: ModuleType) -> None:
        self.classes = nodes.NODE_CLASS_MAPPINGS
        assert nodes.NODE_DISPLAY_NAME_MAPPINGS.keys() == self.classes.keys()

    def run(self, name: str, **given: Any) -> Any:
        """The node's first output; links are values as they are."""
        node = self.classes[name]
        fields = node.INPUT_TYPES()
        assert fields.keys() <= {"required", "optional", "hidden"}
        assert given.keys() >= fields["required"].keys(), "a required input is missing"
        for field, value in given.items():
            kind = {**fields["required"], **fields.get("optional", {})}[field][0]
            if isinstance(kind, list) and value not in kind:
                raise ValueError(f"value not in list: {value}")
            assert kind != "STRING" or isinstance(value, str)
        with torch.inference_mode():
            outputs = getattr(node(), node.FUNCTION)(**given)
        assert isinstance(outputs, tuple) and len(outputs) == len(node.RETURN_TYPES)
        return outputs[0]


class Clip:
    """ComfyUI's CLIP, with the text encoder of a pipeline."""

    def __init__(self, pipeline: Any) -> None:
        self.pipeline = pipeline

    def tokenize(self, text: str) -> dict[str, str]:
        return {"l": text}

    def encode_from_tokens_scheduled(self, tokens: dict[str, str]) -> list[list[Any]]:
        return [[encode(self.pipeline, tokens["l"]).states, {"pooled_output": torch.ones(1, 8)}]]


def make_adapter(folder: Path, **settings: Any) -> Adapter:
    torch.manual_seed(1)
    adapter = Adapter(AdapterConfig(width=32, heads=4, feed_forward=32, **settings))
    torch.nn.init.normal_(adapter.out.weight, std=2.0)
    adapters.save(adapter, folder)
    return adapter.eval()


@pytest.fixture
def models(tmp_path: Path) -> Path:
    return tmp_path / "models"


@pytest.fixture
def graph(models: Path, monkeypatch: pytest.MonkeyPatch) -> Graph:
    for name, module in comfyui(models).items():
        monkeypatch.setitem(sys.modules, name, module)
    return Graph(load_nodes(NODES))


def test_a_prompt_comes_out_as_diffusers_would_be_given_it(graph: Graph, models: Path) -> None:
    adapter, pipeline = make_adapter(models / "surd" / "cups"), make_pipeline()
    loaded = graph.run("SurdLoadAdapter", adapter="cups")
    wanted = prompt_inputs(pipeline, adapter, "two red cups")["prompt_embeds"]
    clip = Clip(pipeline)
    ((states, about),) = graph.run(
        "SurdEncodeWithAdapter", clip=clip, adapter=loaded, text="two red cups"
    )
    torch.testing.assert_close(states, wanted)
    assert torch.equal(about["pooled_output"], torch.ones(1, 8))
    plain = clip.encode_from_tokens_scheduled(clip.tokenize("two red cups"))
    before, told = plain[0][0].clone(), dict(plain[0][1])
    ((applied, _),) = graph.run("SurdApplyAdapter", conditioning=plain, adapter=loaded)
    torch.testing.assert_close(applied, wanted)
    assert torch.equal(plain[0][0], before) and plain[0][1].keys() == told.keys()
    assert not torch.equal(applied, before)


def test_each_window_of_a_long_prompt_is_adapted_by_itself(graph: Graph, models: Path) -> None:
    adapter = make_adapter(models / "surd" / "cups")
    loaded = graph.run("SurdLoadAdapter", adapter="cups")
    torch.manual_seed(2)
    states = torch.randn(2, 154, 32, dtype=torch.float16)
    ((applied, _),) = graph.run("SurdApplyAdapter", conditioning=[[states, {}]], adapter=loaded)
    assert applied.dtype == torch.float16
    for row in range(2):
        for window in (slice(77), slice(77, 154)):
            alone = adapt(adapter, states[row, None, None, window], [("",)])[0]
            torch.testing.assert_close(applied[row, None, window], alone, atol=1e-2, rtol=1e-2)


def test_a_reader_is_given_the_text(graph: Graph, models: Path, tmp_path: Path) -> None:
    config = make_model(tmp_path / "llm").config
    about = LanguageModel(
        str(tmp_path / "gone"), identity(str(tmp_path / "llm")), 2, config.hidden_size, 64
    )
    adapter = make_adapter(models / "surd" / "reader", network="reader", language_model=about)
    place = str(tmp_path / "llm")
    loaded = graph.run("SurdLoadAdapter", adapter="reader", device="cpu", language_model=place)
    pipeline, text = make_pipeline(), "a cat on a table"
    adapter.language = loaded.language
    wanted = prompt_inputs(pipeline, adapter, text)["prompt_embeds"]
    other = prompt_inputs(pipeline, adapter, "a dog")["prompt_embeds"]
    encoded = Clip(pipeline).encode_from_tokens_scheduled({"l": text})
    given = {"conditioning": encoded, "adapter": loaded}
    ((applied, _),) = graph.run("SurdApplyAdapter", **given, text=text)
    torch.testing.assert_close(applied, wanted)
    ((applied, _),) = graph.run("SurdApplyAdapter", **given, text="a dog")
    assert not torch.allclose(applied, wanted) and not torch.allclose(applied, other)
    ((applied, _),) = graph.run(
        "SurdEncodeWithAdapter", clip=Clip(pipeline), adapter=loaded, text=text
    )
    torch.testing.assert_close(applied, wanted)
    weighted = "a (cat:1.2) on [a] table embedding:tidy"  # as CLIP reads it, not a language model
    ((applied, _),) = graph.run("SurdApplyAdapter", **given, text=weighted)
    torch.testing.assert_close(applied, wanted)
    with pytest.raises(SurdError, match="give it the prompt as text"):
        graph.run("SurdApplyAdapter", **given)


def test_adapters_are_found_in_the_folders_of_models(
    graph: Graph, models: Path, tmp_path: Path
) -> None:
    assert graph.classes["SurdLoadAdapter"].INPUT_TYPES()["required"]["adapter"] == ([],)
    make_adapter(models / "surd" / "sd15" / "cups")
    make_adapter(tmp_path / "shared" / "tea")
    make_adapter(tmp_path / "elsewhere")
    sys.modules["folder_paths"].add_model_folder_path("surd", str(tmp_path / "shared"))
    (names,) = graph.classes["SurdLoadAdapter"].INPUT_TYPES()["required"]["adapter"]
    assert names == ["sd15/cups", "tea"]
    for name in names:
        assert isinstance(graph.run("SurdLoadAdapter", adapter=name), Adapter)
    with pytest.raises(ValueError, match="not in list"):
        graph.run("SurdLoadAdapter", adapter="../../elsewhere")
    with pytest.raises(SurdError, match=r"no such adapter; put its folder into .*models/surd"):
        graph.classes["SurdLoadAdapter"]().load("../../elsewhere")


def test_an_adapter_that_was_trained_anew_is_loaded_anew(graph: Graph, models: Path) -> None:
    node, folder = graph.classes["SurdLoadAdapter"], models / "surd" / "cups"
    make_adapter(folder)
    before = node.IS_CHANGED(adapter="cups", device="cpu", language_model="")
    assert node.IS_CHANGED(adapter="cups") == before
    weights = folder / "adapter_model.safetensors"
    os.utime(weights, ns=(0, 1_000_000_000))
    assert node.IS_CHANGED(adapter="cups") != before


def test_an_adapter_for_another_model_is_one_line(graph: Graph, models: Path) -> None:
    make_adapter(models / "surd" / "cups")
    loaded = graph.run("SurdLoadAdapter", adapter="cups")
    with pytest.raises(SurdError, match=r"width 32, but those of this diffusion model have width"):
        graph.run("SurdApplyAdapter", conditioning=[[torch.zeros(1, 77, 64), {}]], adapter=loaded)


def test_a_lora_is_sent_to_comfyuis_own_loader(graph: Graph, models: Path) -> None:
    lora = lora_of(LoraConfig(width=32, rank=2), make_pipeline())
    adapters.save(lora, models / "surd" / "lora")
    with pytest.raises(SurdError, match=r"lora: a LoRA; copy its .* to models/loras instead"):
        graph.run("SurdLoadAdapter", adapter="lora")


def test_the_nodes_need_nothing_that_comfyui_does_not_have(models: Path) -> None:
    """But for language models: surd can be installed beside ComfyUI without its requirements."""
    make_adapter(models / "surd" / "cups")
    script = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(NODES.parents[1])!r})
for name in {NOT_IN_COMFYUI!r}.split():
    sys.modules[name] = None
import torch
from importlib.util import module_from_spec, spec_from_file_location
from types import ModuleType
paths, comfy, management = map(ModuleType, ("folder_paths", "comfy", "comfy.model_management"))
paths.models_dir, comfy.model_management = {str(models)!r}, management
paths.add_model_folder_path = lambda name, path: None
paths.get_folder_paths = lambda name: [{str(models / "surd")!r}]
management.text_encoder_device = lambda: "cpu"
sys.modules.update({{m.__name__: m for m in (paths, comfy, management)}})
spec = spec_from_file_location("nodes", {str(NODES / "__init__.py")!r})
nodes = module_from_spec(spec)
spec.loader.exec_module(nodes)
(adapter,) = nodes.LoadAdapter().load("cups")
(((states, _),),) = nodes.ApplyAdapter().apply([[torch.zeros(1, 77, 32), {{}}]], adapter)
print(tuple(states.shape))
"""
    ran = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=100
    )
    assert ran.stdout.strip() == "(1, 77, 32)", ran.stderr
