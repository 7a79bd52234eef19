"""How many actors a stage gets on a Ray cluster, and what each may use."""

from __future__ import annotations

from dataclasses import replace

import pytest

from surd.engine.cluster import Seats, seats
from surd.engine.ray import shared_among
from surd.errors import SurdError
from surd.recipe.embed_llm import EmbedLlmParams
from surd.recipe.pipeline import stage_named
from surd.stages.caption import CaptionParams
from surd.stages.download.stage import DownloadParams
from surd.stages.prompts import PromptsParams

CORES = [{"CPU": 8.0}, {"CPU": 4.0}]
GPUS = [{"CPU": 8.0, "GPU": 2.0}, {"CPU": 16.0, "GPU": 4.0}]
CAPTION, DOWNLOAD, PROMPTS = map(stage_named, ("caption", "download", "prompts"))
EMBED = replace(CAPTION, params=EmbedLlmParams)


def test_cpu_work_gets_an_actor_a_core() -> None:
    assert seats(PROMPTS, PromptsParams(), None, 1000, CORES) == Seats(12, 1, 0)


def test_a_stage_that_is_concurrent_by_itself_gets_an_actor_a_machine() -> None:
    assert seats(DOWNLOAD, DownloadParams(), None, 1000, CORES) == Seats(2, 4, 0)
    assert seats(DOWNLOAD, DownloadParams(), 4, 1000, CORES) == Seats(4, 2, 0)


def test_a_model_gets_an_actor_a_gpu_and_a_machine_where_there_is_none() -> None:
    assert seats(CAPTION, CaptionParams(), None, 1000, GPUS) == Seats(6, 1, 1)
    assert seats(CAPTION, CaptionParams(), None, 1000, CORES) == Seats(2, 4, 0)
    assert seats(CAPTION, CaptionParams(device="cpu"), None, 1000, GPUS) == Seats(2, 8, 0)


def test_a_model_over_several_gpus_gets_those_of_a_whole_machine() -> None:
    assert seats(EMBED, EmbedLlmParams(model="m", device="map"), None, 1000, GPUS) == Seats(1, 1, 4)


def test_there_are_no_more_actors_than_parts_or_places() -> None:
    assert seats(PROMPTS, PromptsParams(), None, 3, CORES) == Seats(3, 1, 0)
    assert seats(PROMPTS, PromptsParams(), 100, 1000, CORES).actors == 12
    assert seats(CAPTION, CaptionParams(), 100, 1000, GPUS).actors == 6


def test_stages_beside_each_other_find_room_at_once() -> None:
    score = stage_named("score")
    chosen = [
        (DOWNLOAD, DownloadParams()),
        (PROMPTS, PromptsParams()),
        (CAPTION, CaptionParams()),
        (score, score.params()),
    ]
    for offered in (CORES, GPUS, [{"CPU": 1.0, "GPU": 1.0}], [{"CPU": 2.0}]):
        places = [
            seats(*one, None, 1000, offered, [other for other in chosen if other != one])
            for one in chosen
        ]
        for kind, asked in (
            ("CPU", [place.actors * place.cpus for place in places]),
            ("GPU", [place.actors * place.gpus for place in places]),
        ):
            assert sum(asked) <= sum(one.get(kind, 0) for one in offered)
        assert all(
            place.cpus in (0.25, 0.5, 1) or float(place.cpus).is_integer() for place in places
        )
    assert seats(*chosen[2], None, 1000, GPUS, [chosen[3]]) == Seats(6, 0.5, 0.5)


def test_a_cluster_without_cores_is_told_of() -> None:
    with pytest.raises(SurdError, match="no machine with a free core"):
        seats(PROMPTS, PromptsParams(), None, 3, [])


def test_connections_to_a_host_are_shared_among_the_actors() -> None:
    params = DownloadParams(per_host=16, concurrency=64)
    shared = shared_among(DOWNLOAD, params, Seats(4, 1, 0))
    assert isinstance(shared, DownloadParams)
    assert (shared.per_host, shared.concurrency) == (4, 16)
    assert seats(DOWNLOAD, DownloadParams(per_host=3), 8, 1000, CORES).actors == 3


def test_an_actor_uses_the_gpu_that_ray_shows_it() -> None:
    params = CaptionParams(device="cuda:1")
    assert getattr(shared_among(CAPTION, params, Seats(2, 1, 1)), "device") == "cuda"  # noqa: B009
    assert shared_among(CAPTION, params, Seats(2, 1, 0)) == params
