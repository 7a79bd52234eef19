"""What each generator writes is read, and an absent or odd setting never loses the prompt."""

from __future__ import annotations

import json
import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from surd.text.generation import dialects, infotext
from surd.text.generation.dialects import read_text
from surd.text.generation.found import Generation, Text

WANTED = "a clay fox, under a lamp"
SETTINGS = "Steps: 12, Sampler: Euler a, CFG scale: 6.5, Seed: 3, Size: 640x512, Model: base"


def read_at(**texts: str) -> Generation:
    reading = dialects.read(
        [Text(f"PNG {k}", k.replace("_md", "-metadata"), v) for k, v in texts.items()]
    )
    assert reading.generation is not None
    return reading.generation


def check(generation: Generation | None, negative: str | None = "blurry, text") -> Generation:
    assert generation is not None
    assert (generation.prompt, generation.negative_prompt) == (WANTED, negative)
    return generation


WORDS = f"{WANTED}\nNegative prompt: blurry, text"
INFOTEXTS = {
    "whole": f"{WORDS}\n{SETTINGS}",
    "CRLF": f"{WANTED}\r\nNegative prompt: blurry, text\r\n{SETTINGS}\r\n",
    "no sampler": f"{WORDS}\nSteps: 12, Seed: 3",
    "no steps": f"{WORDS}\nSampler: Euler a, Seed: 3, Size: 640x512",
    "steps alone": f"{WORDS}\nSteps: 12",
    "no settings": WORDS,
    "stable-diffusion.cpp": f"{WORDS}\nSteps: 12, CFG scale: 7.000000, Guidance: 3.5, Seed: 3, "
    "Size: 512x512, Model: m.gguf, RNG: cuda, Sampler: euler_a, Version: stable-diffusion.cpp",
    "SD.Next": f"{WORDS}\nSteps: 12| Size: 640x512| Sampler: Euler| Seed: 3",
    "settings over lines": f"{WORDS}\n{SETTINGS}\nTemplate: a __thing__\nNegative Template: blurry",
    "settings at odds": f"{WORDS}\nSteps: 12, Seed: x:y, Size: huge, "
    'Hashes: {"model": , "Model: , CFG scale: ',
    "two lines of a prompt": WORDS.replace(", u", ",\nu") + f"\n{SETTINGS}",
    "on-site Civitai": f"{WORDS}\nSteps: 25, Sampler: Euler a, CFG scale: 7, Seed: 3, "
    "Size: 640x512, Clip skip: 2, Created Date: 2026-01-02T03:04:05.678Z, Civitai resources: "
    '[{"type":"lora","weight":0.7,"modelVersionId":1,"modelName":"Ink"},{"type":"checkpoint",'
    '"modelVersionId":2,"modelName":"Base","modelVersionName":"v9"}], Civitai metadata: {}',
    "Civitai without steps": f"{WORDS}\nSize: 640x512, Seed: 3, "
    'Civitai resources: [{"type":"checkpoint","modelVersionId":2}]',
}


@pytest.mark.parametrize("name", INFOTEXTS)
def test_an_infotext_is_read_whatever_it_lacks(name: str) -> None:
    generation = read_text(INFOTEXTS[name])
    assert generation is not None
    assert " ".join((generation.prompt or "").split()) == WANTED
    assert generation.negative_prompt == "blurry, text"
    assert generation.settings.get("seed", 3) in (3, "x:y")


@pytest.mark.parametrize(
    ("told", "generator"),
    [
        ("Version: f2.0.1v1.10.1-previous-659", "Forge"),
        ("Version: v1.9.3", "AUTOMATIC1111"),
        ("Version: ComfyUI", "ComfyUI"),
        ("Version: surd 0.1.0", "surd"),
        ("Version: stable-diffusion.cpp", "stable-diffusion.cpp"),
        ("App: SD.Next, Version: 1a2b3c", "SD.Next"),
        ("Version: Fooocus v2.5.5", "Fooocus"),
        ('Civitai resources: [{"type":"checkpoint"}]', "Civitai"),
    ],
)
def test_an_infotext_says_who_wrote_it(told: str, generator: str) -> None:
    generation = read_text(f"{WANTED}\n{SETTINGS}, {told}")
    assert generation is not None
    assert generation.generator == generator


def test_a_written_infotext_is_read_as_it_was_meant() -> None:
    names = 'of "me", Seed: 9|\n[x]: {y}\\'
    told = {"Steps": 12, "CFG scale": 7.5, "Seed": 3, "Size": "512x768", "Adapter": names}
    prompts = ('not "blue": {red}', "two cups,\nSteps: 20, Seed: 4", "a\nNegative prompt: b")
    for prompt in prompts:
        for negative in ("blurry, text\nSteps: 20, Seed: 4", ""):
            text = infotext.write(prompt, negative, told | {"Version": "surd 0.1.0"})
            generation = read_text(text)
            assert generation is not None
            assert generation.prompt == prompt.replace("\n", " ")
            assert generation.negative_prompt == (negative.replace("\n", " ") or None)
            assert generation.generator == "surd"
            settings = generation.settings
            assert (settings["steps"], settings["seed"], settings["cfg_scale"]) == (12, 3, 7.5)
            assert settings["Adapter"] == names


def test_quoted_values_do_not_override_settings() -> None:
    quoted = 'Template: "a __thing__, Steps: 99, Seed: 8", Prompt 2: "x: \\"y\\", Seed: 9"'
    generation = read_text(f"{WANTED}\n{SETTINGS}, {quoted}, Version: v1.9.3")
    assert generation is not None
    assert (generation.settings["steps"], generation.settings["seed"]) == (12, 3)
    assert generation.settings["Template"] == "a __thing__, Steps: 99, Seed: 8"
    assert generation.settings["Version"] == "v1.9.3"


def test_the_first_of_two_settings_of_a_name_counts() -> None:
    generation = read_text(f"{WANTED}\n{SETTINGS}, Template: a thing, Seed: 9")
    assert generation is not None
    assert generation.settings["seed"] == 3


def test_only_a_line_that_begins_with_it_is_negative() -> None:
    prompt = 'a poster, "Negative prompt: none"'
    generation = read_text(f"{prompt}\nNegative prompt: blurry\n{SETTINGS}")
    assert generation is not None
    assert (generation.prompt, generation.negative_prompt) == (prompt, "blurry")


def test_settings_alone_are_no_prompt() -> None:
    assert read_at(parameters="Postprocess upscale by: 4, Postprocess upscaler: Big").prompt == ""
    assert read_at(parameters=SETTINGS).prompt == ""


def test_words_alone_are_a_prompt_only_where_generators_write_prompts() -> None:
    assert check(read_at(parameters=WANTED), None).generator == "AUTOMATIC1111"
    assert read_text(WANTED) is None
    reading = dialects.read([Text("PNG Comment", "Comment", "photographed near the old harbour")])
    assert reading.generation is None
    assert [text.where for text in reading.not_understood] == ["PNG Comment"]


INVOKE = {"positive_prompt": WANTED, "negative_prompt": "blurry, text", "app_version": "5.4.0"}
OBJECTS: dict[str, dict[str, Any]] = {
    "InvokeAI": INVOKE | {"model": None, "generation_mode": "flux_txt2img"},
    "InvokeAI 3": INVOKE | {"model": {"model_name": "base"}, "scheduler": "euler"},
    "InvokeAI with odd settings": INVOKE | {"model": [], "steps": {}, "seed": "x", "width": None},
    "InvokeAI 2": {
        "model_weights": "base", "app_version": "2.3.5",
        "image": {"prompt": f"{WANTED} [blurry, text]", "steps": 12},
    },
    "InvokeAI 2, a list": {
        "app_id": "invoke-ai/InvokeAI",
        "image": {"prompt": [{"prompt": f"{WANTED} [blurry, text]"}]},
    },
    "NovelAI": {"prompt": WANTED, "uc": "blurry, text", "steps": 28},
    "NovelAI 4": {
        "prompt": "a clay fox",
        "v4_prompt": {"caption": {"base_caption": WANTED, "char_captions": []}},
        "v4_negative_prompt": {"caption": {"base_caption": "blurry, text", "char_captions": [{}]}},
    },
    "Fooocus": {"prompt": WANTED, "negative_prompt": "blurry, text", "metadata_scheme": "fooocus"},
    "Fooocus, its log": {"Prompt": WANTED, "Negative Prompt": "blurry, text",
                         "Performance": "Speed", "Styles": "[]"},
    "RuinedFooocus": {"Prompt": WANTED, "Negative": "blurry, text", "software": "RuinedFooocus"},
    "SwarmUI": {"sui_image_params": {"prompt": WANTED, "negativeprompt": "blurry, text"}},
    "Easy Diffusion": {"prompt": WANTED, "negative_prompt": "blurry, text",
                       "use_stable_diffusion_model": "base"},
    "Draw Things": {"c": WANTED, "uc": "blurry, text", "sampler": "Euler A"},
    "Tensor.Art": {"prompt": WANTED, "negativePrompt": "blurry, text", "samplerName": "Euler",
                   "baseModel": {"name": "base"}},
    "a site's API": {"meta": {"meta": {"prompt": WANTED, "negativePrompt": "blurry, text"}}},
    "gallery-dl": {"category": "civitai", "generation": {"meta": None},
                   "meta": {"prompt": WANTED, "negativePrompt": "blurry, text"}},
    "an infotext inside": {"parameters": INFOTEXTS["whole"]},
}  # fmt: skip


@pytest.mark.parametrize("name", OBJECTS)
def test_an_object_is_read_in_any_place(name: str) -> None:
    generation = check(read_text(json.dumps(OBJECTS[name])))
    known = [
        word
        for word in ("InvokeAI", "NovelAI", "RuinedFooocus", "Fooocus", "SwarmUI")
        if word in name
    ]
    assert generation.generator == (known or [generation.generator])[0]
    for place in ("parameters", "UserComment", "Comment"):
        check(read_at(**{place: json.dumps(OBJECTS[name]) + "\0"}))


def test_invokeai_tells_the_style_and_the_regions_too() -> None:
    fields = INVOKE | {
        "positive_style_prompt": "woodcut",
        "canvas_v2_metadata": {
            "regionalGuidance": [
                {"positivePrompt": "a tin owl", "negativePrompt": "feathers", "isEnabled": True},
                {"positivePrompt": "unused", "isEnabled": False},
                {"positivePrompt": None},
            ]
        },
    }
    generation = read_at(invokeai_metadata=json.dumps(fields))
    assert generation.prompt == f"{WANTED}\nwoodcut\na tin owl"
    assert generation.negative_prompt == "blurry, text\nfeathers"


def test_novelai_names_each_character() -> None:
    characters = [
        {"char_caption": "woman, grey cloak"},
        {"char_caption": ""},
        {"char_caption": "man"},
    ]
    fields = {"v4_prompt": {"caption": {"base_caption": "two people", "char_captions": characters}}}
    assert read_at(Comment=json.dumps(fields)).prompt == "two people\nwoman, grey cloak\nman"


@pytest.mark.parametrize("left_out", ["Description", "Source", "Title", "Comment"])
def test_novelai_is_read_without_any_one_of_its_texts(left_out: str) -> None:
    texts = {
        "Title": "NovelAI generated image",
        "Software": "NovelAI",
        "Description": WANTED,
        "Source": "NovelAI Diffusion V4 37442FCA",
        "Comment": json.dumps({"prompt": WANTED, "uc": "blurry, text", "steps": 28}),
    }
    del texts[left_out]
    generation = check(read_at(**texts), None if left_out == "Comment" else "blurry, text")
    assert generation.generator == "NovelAI"
    assert generation.model == (None if left_out == "Source" else "NovelAI Diffusion V4")


def test_novelais_texts_are_read_from_one_object() -> None:
    texts = {"Software": "NovelAI", "Source": "NovelAI Diffusion V4 37442FCA"}
    texts |= {"Comment": json.dumps({"prompt": WANTED, "uc": "blurry, text"})}
    generation = check(read_text(json.dumps(texts)))
    assert (generation.generator, generation.model) == ("NovelAI", "NovelAI Diffusion V4")


LINES = {
    "a downloader of Civitai": f"prompt: {WANTED}\nnegativePrompt: blurry, text\nsampler: Euler",
    "another": f"Prompt:\n{WANTED}\n\nNegative prompt:\nblurry, text\n\nSteps: 12\n",
    "links first": f"url: https://x.example/1\nprompt: {WANTED}\nnegative prompt: blurry, text",
    "Easy Diffusion": f"Prompt: {WANTED}\nSeed: 3\nStable Diffusion model: base\nWidth: 640\n"
    "Negative Prompt: blurry, text\nInference Steps: 12",
    "an infotext with a label": f"Prompt: {WORDS}\n{SETTINGS}",
    "Mochi Diffusion": f"Include in Image: {WANTED}; Exclude from Image: blurry, text; "
    "Model: base; Steps: 12; Seed: 3",
}


@pytest.mark.parametrize("name", LINES)
def test_named_lines_are_read(name: str) -> None:
    check(read_text(LINES[name]))


def test_a_prompt_with_colons_is_not_cut_at_them() -> None:
    generation = read_text("prompt: a fox: the film, time: dusk\nseed: 3")
    assert generation is not None
    assert generation.prompt == "a fox: the film, time: dusk"


def test_midjourneys_description_is_read() -> None:
    job = "0f8fad5b-d9cb-469f-a165-70867728950e"
    generation = check(read_at(Description=f"{WANTED} Job ID: {job}"), None)
    assert generation.generator == "Midjourney"


def test_fields_in_places_of_their_own_are_read() -> None:
    generation = check(
        read_at(
            prompt=WANTED, negative_prompt="blurry, text", seed="3", num_inference_steps="12",
            use_stable_diffusion_model="base", guidance_scale="6.5",
        )
    )  # fmt: skip
    assert generation.generator == "Easy Diffusion"
    assert generation.settings["seed"] == 3


@pytest.mark.parametrize("label", ["prompt:", "Prompt:", "Prompt: ", "PROMPT :"])
def test_a_label_before_json_names_its_place(label: str) -> None:
    graph = {"1": {"class_type": "X", "inputs": {"prompt": WANTED, "seed": 1}}}
    texts = [
        Text("EXIF Make", "Make", label + json.dumps(graph)),
        Text("EXIF Model", "Model", 'Workflow:{"nodes": []}'),
    ]
    reading = dialects.read(texts)
    assert check(reading.generation, None).generator == "ComfyUI"
    assert not reading.not_understood


def test_the_text_nearest_to_the_generator_is_believed() -> None:
    graph = {"1": {"class_type": "X", "inputs": {"prompt": "a template", "seed": 1}}}
    assert check(read_at(prompt=json.dumps(graph), parameters=INFOTEXTS["whole"]))


def test_an_empty_text_does_not_hide_another() -> None:
    check(
        read_at(
            parameters=f"\nNegative prompt: x\n{SETTINGS}", Comment=json.dumps(OBJECTS["NovelAI"])
        )
    )


@given(st.text(alphabet=string.ascii_letters, min_size=20))
def test_no_text_is_lost_in_silence(words: str) -> None:
    for name in ("Comment", "UserComment", "XPComment", "anything"):
        for text in (words, json.dumps({"x": words}), f"<{words}>"):
            reading = dialects.read([Text(f"at {name}", name, text)])
            assert reading.generation is not None or reading.not_understood


def test_a_graph_without_a_prompt_is_told() -> None:
    graph = {"1": {"class_type": "Draw", "inputs": {"seed": 1, "steps": 2, "positive": ["9", 0]}}}
    reading = dialects.read([Text("PNG prompt", "prompt", json.dumps(graph) + " " * 9)])
    assert reading.generation is not None
    assert reading.generation.prompt is None
    assert [text.name for text in reading.not_understood] == ["prompt"]


HOSTILE = {
    "nested": '{"prompt": ' + "[" * 100_000,
    "nested objects": '{"a":' * 100_000,
    "a huge number": json.dumps({"prompt": WANTED})[:-1] + ', "seed": ' + "9" * 100_000 + "}",
    "a huge exponent": json.dumps({"prompt": WANTED})[:-1] + ', "seed": 1e999999}',
    "open brackets": "Steps: 1, " + "Hashes: {" * 100_000,
    "open quotes": "Steps: 1, " + 'A: "x, ' * 100_000,
    "backslashes": 'Steps: 1, A: "' + "\\" * 500_000,
    "commas": "Steps: 1, " + "," * 1_000_000,
    "spaces": "Steps: 1, " + " " * 1_000_000,
    "colons": "Steps: 1, " + "a:" * 500_000,
    "lines of settings": "Steps: 1, A: b\n" * 100_000,
    "lines with names": "prompt: a\n" * 100_000,
    "negative lines": "Negative prompt: a\n" * 100_000,
    "quotes": '"' * 1_000_000,
    "square brackets": '"' + "[" * 500_000 + '" -s 1',
    "flags": '"x" ' + "-s 1 " * 200_000,
    "jobs": "Job ID: " * 100_000,
    "pieces": "Include in Image: a; " * 100_000,
}


@pytest.mark.timeout(60)  # a hang, not a slow machine, ends it
@pytest.mark.parametrize("name", HOSTILE)
def test_no_text_is_slow_or_raises(name: str) -> None:
    for place in ("parameters", "Comment", "Dream", "x"):
        dialects.read([Text(place, place, HOSTILE[name])])
    if "huge" in name:
        assert read_at(parameters=HOSTILE[name]).prompt == WANTED
