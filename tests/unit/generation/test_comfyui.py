"""ComfyUI's graphs: the prompt is found whatever nodes it comes through."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from surd.text.generation.dialects import read_text
from surd.text.generation.found import Generation

WANTED = "a clay fox, under a lamp"


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": {k.replace("__", " "): v for k, v in inputs.items()}}


def graph(positive: Any = None, **more: Any) -> dict[str, Any]:
    """A graph whose encoder takes ``positive``; nodes of ``more`` are keyed without their ``n``."""
    return {
        "1": node("CheckpointLoaderSimple", ckpt_name="base.safetensors"),
        "2": node("CLIPTextEncode", text=positive, clip=["1", 1]),
        "3": node("CLIPTextEncode", text="blurry, text", clip=["1", 1]),
        "4": node("EmptyLatentImage", width=640, height=512, batch_size=1),
        "5": node(
            "KSampler", seed=3, steps=12, cfg=6.5, sampler_name="euler", scheduler="normal",
            denoise=1.0, model=["1", 0], positive=["2", 0], negative=["3", 0],
            latent_image=["4", 0],
        ),
        "6": node("VAEDecode", samples=["5", 0], vae=["1", 2]),
        "7": node("SaveImage", images=["6", 0], filename_prefix="x"),
    } | {key.removeprefix("n"): value for key, value in more.items()}  # fmt: skip


def read(nodes: Any) -> Generation:
    generation = read_text(json.dumps(nodes))
    assert generation is not None
    assert generation.generator == "ComfyUI"
    return generation


LINKED = {
    "value": node("PrimitiveStringMultiline", value=WANTED),
    "string": node("StringConstant", string=WANTED),
    "capital": node("Simple String", String=WANTED),
    "prompt": node("Prompt Box", prompt=WANTED, seed=3),
    "prompt_text": node("Prompt Maker", prompt_text=WANTED, mode="tags"),
    "positive": node("easy positive", positive=WANTED),
    "positive_prompt": node("Styles", positive_prompt=WANTED, negative_prompt="ugly, bad"),
    "text_positive": node("SDXLPromptStyler", text_positive=WANTED, text_negative="bad", style="x"),
    "populated before template": node(
        "ImpactWildcardProcessor", wildcard_text="a {clay|tin} fox, under a lamp",
        populated_text=WANTED, mode="populate", seed=1,
    ),
    "template only": node("Wildcards", wildcard_text=WANTED, seed=1),
    "displayed before its input": node("ShowText|pysssss", text=["31", 0], text_0=WANTED),
    "displayed under another name": node("Show Any", anything=["31", 0], text2=WANTED),
    "a result kept": node(
        "StringFunction|pysssss", action="append", tidy_tags="yes", text_a=["31", 0],
        text_b="x", text_c="", result=WANTED,
    ),
    "concatenated": node(
        "StringConcatenate", string_a="a clay fox", string_b="under a lamp", delimiter=", "
    ),
    "concatenated in the order of inputs": node(
        "Text Concatenate", delimiter=", ", clean_whitespace="true", text_a="a clay fox",
        text_c="", text_b="under a lamp",
    ),
    "numbered parts": node("JoinStringMulti", inputcount=2, string_1="a clay fox",
                           string_2="under a lamp", delimiter=", ", return_list=False),
    "concatenated without delimiter": node("Concat", text1="a clay fox, ", text2="under a lamp"),
    "a text and others with letters": node(
        "Join", text="a clay fox", text_b=["34", 0], c="", separator=", "
    ),
    "links with letters": node("Join Four", a=["35", 0], c=["34", 0], separator=", "),
    "prefix and suffix": node("Affix", suffix=", under a lamp", prefix="a ", text="clay fox"),
    "replaced": node("StringReplace", string="a TIN fox, under a lamp", find="TIN", replace="clay"),
    "switched by number": node("CR Text Input Switch", Input=2, text1="no, not this", text2=WANTED),
    "switched by index": node("easy textIndexSwitch", index=1, text0="no, no", text1=WANTED),
    "switched by a boolean": node("Switch", switch=True, on_false="no, no", on_true=WANTED),
    "switched off": node("Switch", boolean=False, on_true="no, not this", on_false=WANTED),
    "a conditional": node("ImpactConditionalBranch", cond=False, tt_value="no no", ff_value=WANTED),
    "two texts and a boolean": node("Text Switch", boolean=False, text_a="no", text_b=WANTED),
    "switched by a linked number": node(
        "ImpactSwitch", select=["32", 0], sel_mode=False, input1="no, no", input2=WANTED
    ),
    "a reroute": node("Reroute", **{"": ["33", 0]}),
    "a bridge of any name": node("Bridge", whatever=["33", 0], trigger=5),
    "texts for two encoders left empty": node("Words", text_g="", text_l="", text=WANTED),
    "a list of texts": node("ShowText|pysssss", text=["31", 0], text_0=[WANTED]),
    "the first of several that says anything": node(
        "Any Switch (rgthree)", any_01=["99", 0], any_02=["33", 0]
    ),
    "one of several texts": node("Text String", text=WANTED, text_b="no, no", text_c="", text_d=""),
    "any text": node("Poem", verse=WANTED, mode="fast"),
}  # fmt: skip
OTHERS = {
    "n31": node("Describer", prompt="say what is here", model="x"),
    "n32": node("Int", value=2),
    "n33": node("Text Multiline", text=WANTED),
    "n34": node("Text Multiline", text="under a lamp"),
    "n35": node("Text Multiline", text="a clay fox"),
}


@pytest.mark.parametrize("name", LINKED)
def test_a_linked_text_is_followed_to_its_words(name: str) -> None:
    generation = read(graph(["30", 0], n30=LINKED[name], **OTHERS))
    assert (generation.prompt, generation.negative_prompt) == (WANTED, "blurry, text")


CONDITIONED = {
    "qwen": node("TextEncodeQwenImageEdit", prompt=WANTED, clip=["1", 1], vae=["1", 2]),
    "sdxl": node("CLIPTextEncodeSDXL", text_g="a clay fox", text_l="under a lamp", clip=["1", 1],
                 width=1024, height=1024, crop_w=0, crop_h=0),
    "flux": node("CLIPTextEncodeFlux", clip_l="a clay fox", t5xxl="under a lamp", guidance=3.5,
                 clip=["1", 1]),
    "the same twice": node("CLIPTextEncodeSDXL", text_g=WANTED, text_l=WANTED, clip=["1", 1]),
    "guidance": node("FluxGuidance", conditioning=["41", 0], guidance=3.5),
    "combined": node("ConditioningCombine", conditioning_1=["42", 0], conditioning_2=["43", 0]),
    "concatenated": node("ConditioningConcat", conditioning_to=["42", 0],
                         conditioning_from=["43", 0]),
    "an area, with an option in words": node(
        "ConditioningSetMask", conditioning=["41", 0], mask=["9", 0], set_cond_area="mask bounds"),
    "controlnet": node("ControlNetApplyAdvanced", positive=["41", 0], negative=["3", 0],
                       strength=1.0, control_net=["9", 0], image=["9", 0]),
    "a switch": node("ConditioningSwitch", select=2, input1=["42", 0], input2=["41", 0]),
    "a bridge": node("ImpactConditioningBridge", thing=["41", 0]),
    "wildcards": node("ImpactWildcardEncode", model=["1", 0], clip=["1", 1], seed=1,
                      wildcard_text="a {x|y}", populated_text=WANTED),
}  # fmt: skip


@pytest.mark.parametrize("name", CONDITIONED)
def test_any_conditioning_is_followed_to_its_words(name: str) -> None:
    more = {
        "n40": CONDITIONED[name],
        "n41": node("CLIPTextEncode", text=WANTED, clip=["1", 1]),
        "n42": node("CLIPTextEncode", text="a clay fox", clip=["1", 1]),
        "n43": node("CLIPTextEncode", text="under a lamp", clip=["1", 1]),
    }
    nodes = graph("not in use", **more)
    nodes["5"]["inputs"]["positive"] = ["40", 0]
    generation = read(nodes)
    assert (generation.prompt, generation.negative_prompt) == (WANTED, "blurry, text")
    assert generation.model == "base.safetensors"


SAMPLED = {
    "a loader behind a pipe": {
        "1": node("easy fullLoader", ckpt_name="base.safetensors", positive=WANTED,
                  negative="blurry, text", empty_latent_width=640, empty_latent_height=512),
        "2": node("easy preSampling", pipe=["1", 0], steps=12, cfg=6.5, sampler_name="euler",
                  scheduler="normal", denoise=1.0, seed=3),
        "3": node("easy kSampler", pipe=["2", 0], image_output="Save", link_id=0),
    },
    "an efficient loader with linked texts": {
        "1": node("Efficient Loader", ckpt_name="base.safetensors", positive=["4", 0],
                  negative=["5", 0], empty_latent_width=640, empty_latent_height=512),
        "4": node("Text", text=WANTED),
        "5": node("Text", text="blurry, text"),
        "3": node("KSampler (Efficient)", model=["1", 0], positive=["1", 1], negative=["1", 2],
                  seed=3, steps=12, cfg=6.5, sampler_name="euler", latent_image=["1", 3]),
    },
    "pieces with a guider": {
        "1": node("UNETLoader", unet_name="base.safetensors"),
        "2": node("CLIPTextEncode", text=WANTED, clip=["9", 0]),
        "3": node("CLIPTextEncode", text="blurry, text", clip=["9", 0]),
        "4": node("CFGGuider", model=["1", 0], positive=["2", 0], negative=["3", 0], cfg=6.5),
        "5": node("BasicScheduler", model=["1", 0], steps=12, scheduler="simple", denoise=1.0),
        "6": node("KSamplerSelect", sampler_name="euler"),
        "7": node("RandomNoise", noise_seed=3),
        "8": node("SamplerCustomAdvanced", noise=["7", 0], guider=["4", 0], sampler=["6", 0],
                  sigmas=["5", 0], latent_image=["10", 0]),
        "10": node("EmptySD3LatentImage", width=640, height=512),
    },
    "a sampler of another name, with a bridge": {
        "1": node("WanVideoModelLoader", model="base.safetensors"),
        "2": node("WanVideoTextEncode", positive_prompt=WANTED, negative_prompt="blurry, text"),
        "3": node("WanVideoTextEmbedBridge", positive=["2", 0], negative=["2", 0]),
        "4": node("Draw It", model=["1", 0], text_embeds=["3", 0], steps=12, cfg=6.5, seed=3,
                  scheduler="euler", width=640, height=512),
    },
    "a basic pipe": {
        "1": node("CheckpointLoaderSimple", ckpt_name="base.safetensors"),
        "2": node("CLIPTextEncode", text=WANTED, clip=["1", 1]),
        "3": node("CLIPTextEncode", text="blurry, text", clip=["1", 1]),
        "4": node("ToBasicPipe", model=["1", 0], positive=["2", 0], negative=["3", 0]),
        "5": node("ImpactKSamplerBasicPipe", basic_pipe=["4", 0], seed=3, steps=12, cfg=6.5,
                  sampler_name="euler", latent_image=["6", 0]),
        "6": node("EmptyLatentImage", width=640, height=512),
    },
    "a context": {
        "1": node("CheckpointLoaderSimple", ckpt_name="base.safetensors"),
        "2": node("CLIPTextEncode", text=WANTED, clip=["1", 1]),
        "3": node("CLIPTextEncode", text="blurry, text", clip=["1", 1]),
        "4": node("Context (rgthree)", model=["1", 0], positive=["2", 0], negative=["3", 0]),
        "5": node("Context (rgthree)", base_ctx=["4", 0]),
        "6": node("KSampler", positive=["5", 4], negative=["5", 5], model=["5", 1], seed=3,
                  steps=12, cfg=6.5, sampler_name="euler", latent_image=["7", 0]),
        "7": node("EmptyLatentImage", width=640, height=512),
    },
    "nodes of a subgraph": {
        "9:1": node("CheckpointLoaderSimple", ckpt_name="base.safetensors"),
        "9:2": node("CLIPTextEncode", text=["8", 0], clip=["9:1", 1]),
        "9:3": node("CLIPTextEncode", text="blurry, text", clip=["9:1", 1]),
        "9:7:4": node("EmptyLatentImage", width=640, height=512),
        "8": node("PrimitiveString", value=WANTED),
        "9:5": node("KSampler", positive=["9:2", 0], negative=["9:3", 0], model=["9:1", 0], seed=3,
                    steps=12, cfg=6.5, sampler_name="euler", latent_image=["9:7:4", 0]),
    },
    "seed and steps from other nodes": {
        **graph(WANTED),
        "5": node("KSampler", positive=["2", 0], negative=["3", 0], model=["1", 0], seed=["20", 0],
                  steps=["21", 0], cfg=6.5, sampler_name="euler", latent_image=["4", 0]),
        "20": node("Seed Everywhere", seed=3),
        "21": node("PrimitiveInt", value=12),
    },
}  # fmt: skip


@pytest.mark.parametrize("name", SAMPLED)
def test_any_sampler_is_known_by_its_inputs(name: str) -> None:
    generation = read(SAMPLED[name])
    assert (generation.prompt, generation.negative_prompt) == (WANTED, "blurry, text")
    assert generation.model == "base.safetensors"
    settings = generation.settings
    if name != "a loader behind a pipe":
        wanted = {"seed": 3, "steps": 12, "cfg_scale": 6.5, "sampler": "euler"}
        assert {key: settings.get(key) for key in wanted} == wanted
    assert (settings["width"], settings["height"]) == (640, 512)


def test_a_prompt_of_no_words_is_no_failure_to_find_one() -> None:
    assert read(graph("")).prompt == ""
    assert read({"1": node("KSampler", seed=1, steps=1, positive=["9", 0])}).prompt is None


@pytest.mark.parametrize(
    "asked",
    [
        node("OllamaGenerate", prompt="describe a cat in a few words", model="llama"),
        node("Chat", prompt="describe a cat in a few words", system_prompt="be brief", seed=1),
        node("Ask", text="describe a cat in a few words", temperature=0.7, max_tokens=90),
    ],
)
def test_what_a_language_model_was_asked_is_not_the_prompt(asked: dict[str, Any]) -> None:
    """Nor is any other text in the graph."""
    assert read(graph(["20", 0], n20=asked)).prompt is None
    shown = node("ShowText|pysssss", text=["20", 0], text_0=WANTED)
    assert read(graph(["21", 0], n20=asked, n21=shown)).prompt == WANTED
    assert read(graph(["21", 0], n20=asked, n21=node("ShowText", text=["20", 0]))).prompt is None
    joined = node("Join", text_a="masterpiece", text_b=["20", 0], delimiter=", ")
    assert read(graph(["21", 0], n20=asked, n21=joined)).prompt is None
    switch = node("Switch", boolean=True, on_true=WANTED, on_false=["20", 0])
    assert read(graph(["21", 0], n20=asked, n21=switch)).prompt == WANTED


def test_a_second_output_gives_the_second_text() -> None:
    texts = node("Text String", text="no, no", text_b=WANTED, text_c="", text_d="")
    assert read(graph(["20", 1], n20=texts)).prompt == WANTED


def test_an_unknown_sampler_is_no_reason_to_take_the_negative_prompt() -> None:
    nodes = {
        "1": node("CLIPTextEncode", text=WANTED, clip=["9", 0]),
        "2": node("CLIPTextEncode", text="blurry, text, words, and more of it", clip=["9", 0]),
        "3": node("Draw", positive=["1", 0], negative=["2", 0]),
    }
    assert read(nodes).prompt == WANTED


def test_a_service_that_draws_by_itself_is_read() -> None:
    nodes = {"1": node("FluxProImageNode", prompt=WANTED, seed=4, width=640, height=512)}
    assert read(nodes).prompt == WANTED


def test_a_negative_prompt_that_is_the_positive_one_is_none() -> None:
    nodes = graph(WANTED)
    nodes["5"]["inputs"]["negative"] = ["2", 0]
    assert read(nodes).negative_prompt is None


@pytest.mark.parametrize(
    "wrap",
    [
        lambda nodes: {"prompt": nodes, "workflow": {"nodes": []}},
        lambda nodes: {"prompt": json.dumps(nodes)},
        lambda nodes: {"prompt": {"prompt": nodes}},
    ],
)
def test_a_graph_inside_another_object_is_found(wrap: Any) -> None:
    assert read(wrap(graph(WANTED))).prompt == WANTED


def test_what_civitais_generator_adds_is_believed() -> None:
    extra = json.dumps({"prompt": WANTED, "negativePrompt": "ugly", "steps": 20})
    nodes = graph("an encoded text", **{"nresource-stack": node("CheckpointLoader")})
    generation = read({**nodes, "extra": {"airs": []}, "extraMetadata": extra})
    assert (generation.prompt, generation.negative_prompt) == (WANTED, "ugly")


def test_the_editors_workflow_is_read_where_there_is_no_prompt() -> None:
    def widget(name: str) -> dict[str, Any]:
        return {"name": name, "link": None, "widget": {"name": name}}

    inner = {
        "id": "sub-1",
        "nodes": [
            {
                "id": 2,
                "type": "CLIPTextEncode",
                "inputs": [{"name": "clip", "link": None}, {**widget("text"), "link": 1}],
                "widgets_values": ["not in use"],
            }
        ],
        "links": [
            {"id": 1, "origin_id": -10, "origin_slot": 0, "target_id": 2, "target_slot": 1},
            {"id": 2, "origin_id": 2, "origin_slot": 0, "target_id": -20, "target_slot": 0},
        ],
    }
    workflow = {
        "nodes": [
            {"id": 1, "type": "PrimitiveString", "widgets_values": [WANTED], "inputs": []},
            {"id": 4, "type": "sub-1", "inputs": [{"name": "text", "link": 8}]},
            {
                "id": 5,
                "type": "KSampler",
                "inputs": [
                    {"name": "positive", "link": 9},
                    {"name": "negative", "link": 10},
                    {"name": "latent_image", "link": None},
                    *map(widget, ("seed", "steps", "cfg", "sampler_name")),
                ],
                "widgets_values": [3, "randomize", 12, 6.5, "euler"],
            },
            {"id": 6, "type": "CLIPTextEncode", "inputs": [], "widgets_values": ["blurry, text"]},
        ],
        "links": [[8, 1, 0, 4, 0, "STRING"], [9, 4, 0, 5, 0, "X"], [10, 6, 0, 5, 1, "X"]],
        "definitions": {"subgraphs": [inner]},
    }
    generation = read(workflow)
    assert (generation.prompt, generation.negative_prompt) == (WANTED, "blurry, text")
    assert generation.settings["seed"] == 3
    assert generation.settings["steps"] == 12


def test_the_order_of_nodes_does_not_matter() -> None:
    for name, nodes in SAMPLED.items():
        items = list(nodes.items())
        random.Random(1).shuffle(items)
        assert read(dict(items)).prompt == WANTED, name


def _chain(length: int) -> dict[str, Any]:
    links = {f"n{i}": node("Concat", text_a=[str(i + 1), 0], text_b="x") for i in range(20, length)}
    return graph(["20", 0], **links)


HOSTILE = {
    "a long chain": _chain(20_000),
    "a circle": graph(
        ["20", 0], n20=node("A", a=["21", 0], b=["20", 0]), n21=node("B", a=["20", 0])
    ),
    "doubling": graph(
        ["20", 0],
        **{
            f"n{i}": node("Concat", text_a=[str(i + 1), 0], text_b=[str(i + 1), 0])
            for i in range(20, 90)
        },
        n90=node("Text", text="ab, "),
    ),
    "everything linked with everything": {
        str(i): node("KSampler", seed=1, steps=1, positive=[str((i * 7) % 3000), 0],
                     **{f"conditioning_{j}": [str((i * j) % 3000), 0] for j in range(20)})
        for i in range(3000)
    },
    "samplers without end": {
        **graph(WANTED),
        **{str(i): node("KSampler", seed=1, steps=1, positive=["2", 0], model=["1", 0])
           for i in range(10, 20_000)},
    },
    "no nodes": {"1": {"class_type": "A", "inputs": 5}, "2": 7, "3": {"class_type": None}},
    "odd links": graph([[], 0], n9=node("A", text=[None, True], b=["2", 1e400], c=[["2"], 0])),
}  # fmt: skip


@pytest.mark.timeout(60)  # a hang, not a slow machine, ends it
@pytest.mark.parametrize("name", HOSTILE)
def test_no_graph_is_slow_or_raises(name: str) -> None:
    read_text(json.dumps(HOSTILE[name]))
