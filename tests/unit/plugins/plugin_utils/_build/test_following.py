# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from planned_builds import BUILD

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._build import following


def job(state="running", step=0, steps=0, seconds=0.0, **more):
    return {"state": state, "step": step, "steps": steps, "seconds": seconds, "message": "", "log": "/b/build.log", **more}


def follow(*answers, limit=14400.0, patience=600.0):
    """Follow a build whose builder answers so. Returns the last answer, and the lines that were shown."""
    waiting, notes = list(answers), []

    def poll():
        answer = waiting.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return following.follow(BUILD, poll, notes.append, limit, patience, sleep=lambda seconds: None), notes


def test_a_build_is_followed_to_its_end_and_its_steps_are_shown():
    last, notes = follow(job(), job(step=0, steps=8, seconds=5.0), job(step=2, steps=8, seconds=60.0), job("finished"))
    assert last["state"] == "finished"
    # the next line would come half a minute later
    assert notes == ["causal-conv1d 1.7.0 on b01: step 0 of 8, 5 s"]


def test_progress_tells_about_how_long_it_will_still_take():
    line = following.describe_progress(BUILD, job(step=2, steps=8, seconds=60.0))
    assert line == "causal-conv1d 1.7.0 on b01: step 2 of 8, 60 s, about 3 min left"


def test_a_lost_connection_is_a_pause():
    last, _notes = follow(job(), following.LostError("unreachable"), following.LostError("unreachable"), job("finished"))
    assert last["state"] == "finished"


def test_a_builder_that_stays_away_is_left_to_itself_and_the_build_goes_on():
    with pytest.raises(TorchExtensionError, match=r"b01 has not answered .*: gone\. The build goes on there\. Run again"):
        follow(job(), *[following.LostError("gone")] * 3, patience=0.0)


def test_a_builder_that_never_ends_is_not_followed_for_ever():
    words = r"b01 still says that it builds causal-conv1d 1\.7\.0 after .*time_limit ends a build after 0 s\. Nothing was taken"
    with pytest.raises(TorchExtensionError, match=words):
        follow(*[job()] * 3, limit=0.0, patience=0.0)


@pytest.mark.parametrize("state", ["failed", "lost", "absent"])
def test_what_ends_otherwise_is_told(state):
    last, _notes = follow(job(), job(state, message="error: no such file."))
    assert following.explain_failure(BUILD, last) == (
        "causal-conv1d 1.7.0 could not be built on b01: error: no such file. The whole log is /b/build.log there. What is compiled stays,"
        " and the next run goes on from it."
    )


def test_a_failure_without_a_word_names_its_state():
    assert "could not be built on b01: the build has ended as absent." in following.explain_failure(BUILD, job("absent"))


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (89, "89 s"), (90, "2 min"), (3600, "60 min"), (7260, "2 h 1 min")]
)
def test_times_are_in_words(seconds, text):
    assert following.format_time(seconds) == text
