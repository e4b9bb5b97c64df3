"""The step filters: scores of every arm, their losses, what a filter removes, and what is left where pairs are gone."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pandas
import pytest
import torch
from safetensors.torch import load_file, save_file

from explorer.cli.defence import _counted
from explorer.core.provenance import ManifestError
from explorer.defence.exports import filtered_pairs
from explorer.defence.pair_sample import even_sample
from explorer.defence.recipe import read_recipe, recipe_json
from explorer.defence.report import compared, filter_report, held_out_report
from explorer.embeddings.store import partition_paths
from explorer.pairs.pair_set import PairSet
from explorer.pairs.poison_flags import PoisonFlags
from explorer.studies.arm_opening import open_arm_pairs
from explorer.studies.discovery import StudyRequest, new_study
from explorer.studies.extractors import load_extractor
from explorer.studies.filtering import (
    current_scored_pairs,
    report_filter,
    save_filter,
    saved_filter,
    saved_filters,
    scored_pairs,
)
from explorer.studies.packing import export_study, import_results
from explorer.studies.pair_losses import SEED as LOSS_SEED
from explorer.studies.recorded import Recorded, arm_named, loss_model, named
from explorer.studies.results import FILTERS
from explorer.studies.running import RunRequest, run_study
from explorer.studies.specs import ExtractorSpec, FiltersSpec
from explorer.studies.state import study_state
from explorer.studies.study import Arm, Study

ARM = "dirty-004"
CLIP = {"score": "clip_similarity", "remove": "lowest", "cut": {"rank": 3}}


@pytest.fixture(scope="module")
def made(micro_world, tmp_path_factory):
    """A study of two arms whose models measure losses, with a score of the user's own."""
    home = tmp_path_factory.mktemp("home")
    for name in ("base", "benign", ARM, "extractor"):
        shutil.copytree(micro_world.output / name, home / "models" / name)
    for name in ("benign", ARM):
        shutil.copytree(micro_world.run / "sets" / name, home / "sets" / name)
    study = new_study(
        StudyRequest(
            folder=home / "study",
            checkpoints=(str(home / "models" / "*"),),
            pairs=(str(home / "sets"),),
            extractor=ExtractorSpec(folder=home / "models" / "extractor"),
            name="two arms",
        )
    ).study
    uids = PairSet.load(home / "sets" / ARM).table["uid"]
    pandas.DataFrame({"uid": uids, "place": np.arange(len(uids))}).to_parquet(home / "own.parquet")
    spec = FiltersSpec(
        loss_arms=("benign", ARM), losses_of=(ARM,), loss_pairs=5, scores=home / "own.parquet", columns=("place",)
    )
    study = replace(study, filters=spec)
    study.write()
    report = run_study(Study.load(study.folder), RunRequest(steps=("scores", FILTERS)))
    assert report.failed == {}
    return home


@pytest.fixture
def study(made, tmp_path):
    return Study.load(shutil.copytree(made, tmp_path / "home", symlinks=True) / "study")


def test_every_score_is_there_and_its_grade_where_poison_is_known(study):
    pairs, control = scored_pairs(study, ARM), scored_pairs(study, "benign")
    losses = {"loss:benign", f"loss:{ARM}", f"loss:benign-{ARM}"}
    assert set(pairs.scores) - set(control.scores) == losses
    assert {"clip_similarity", "user:place"} <= set(control.scores)
    assert all(np.isfinite(pairs.scores[name]).sum() == 5 for name in losses)
    assert pairs.describe("loss:benign")["unscored"] == len(pairs) - 5
    assert pairs.describe("clip_similarity")["auc"]["value"] >= 0
    assert control.describe("clip_similarity")["auc"] is None
    table = PairSet.load(study.arm(ARM).pairs).table
    training = table[table["split"] == "train"]
    assert pairs.uids == training["uid"].tolist()
    assert pairs.flags.poisoned.tolist() == training["is_poison"].tolist()
    first = [pairs.concepts[number] for number in pairs.columns["main_concept"]]
    assert first == [concepts[0] for concepts in training["concepts"]]


def test_which_losses_are_measured_hangs_on_captions_alone(study):
    pairs = scored_pairs(study, ARM)
    table = PairSet.load(study.arm(ARM).pairs).table.iloc[pairs.columns["row"].astype(int)]
    drawn = np.flatnonzero(np.isfinite(pairs.scores["loss:benign"]))
    assert drawn.tolist() == even_sample(table[["concepts"]], 5, LOSS_SEED).tolist()


def test_losses_of_a_sample_that_flags_chose_are_stale(study):
    manifest = study.results / FILTERS / "manifest.json"
    told = json.loads(manifest.read_text())
    assert told["config"]["settings"].pop("loss_draw") == "without flags"
    manifest.write_text(json.dumps(told))
    state = next(each for each in study_state(study) if each.step == FILTERS)
    assert (state.state, state.arms[0].why) == ("stale", "changed: loss_draw")


def test_losses_and_their_latents_are_kept(study, monkeypatch):
    from explorer.training import sample_loss

    shutil.rmtree(study.results / FILTERS)
    for name in ("latent_losses", "encoded_pictures"):
        monkeypatch.setattr(sample_loss, name, lambda *arguments, **options: pytest.fail("measured again"))
    assert run_study(study, RunRequest(steps=(FILTERS,))).made == {FILTERS: ("benign", ARM)}


def test_an_arm_whose_losses_memory_does_not_suffice_for_is_not_done_without_them(study, monkeypatch):
    def forward(self, *given, **options):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    shutil.rmtree(study.results / FILTERS)
    shutil.rmtree(study.folder / "features" / "losses")
    monkeypatch.setattr("diffusers.UNet2DConditionModel.forward", forward)
    report = run_study(study, RunRequest(steps=(FILTERS,)))
    assert report.made == {FILTERS: ("benign",)}
    assert list(report.failed) == [f"filters of {ARM}"]
    assert "memory does not suffice for denoising losses" in report.failed[f"filters of {ARM}"]
    assert "--precision fp16" in report.failed[f"filters of {ARM}"]


def test_an_arm_whose_losses_are_no_numbers_is_not_done_without_them(study):
    shutil.rmtree(study.results / FILTERS)
    shutil.rmtree(study.folder / "features" / "losses")
    weights = study.arm("benign").checkpoint / "unet" / "diffusion_pytorch_model.safetensors"
    state = load_file(weights)
    save_file(state | {"conv_out.bias": torch.full_like(state["conv_out.bias"], torch.nan)}, weights)
    report = run_study(study, RunRequest(steps=(FILTERS,)))
    assert report.made == {FILTERS: ("benign",)}
    assert list(report.failed) == [f"filters of {ARM}"]


@pytest.mark.parametrize(
    ("captions", "why"), [(None, "none of its pairs has a caption"), (["a dog"] * 6, "holds embeddings: expected")]
)
def test_pairs_without_a_caption_or_pictures_have_every_other_score(study, tmp_path, captions, why):
    """As those of an embedding store; the arms beside it are measured all the same."""
    width = load_extractor(study.extractor).encode_texts(["a"]).shape[1]
    for part in ("image", "text"):
        (path := partition_paths(tmp_path / "store", 0)[part]).parent.mkdir(parents=True)
        np.save(path, np.random.default_rng(0).normal(size=(6, width)).astype(np.float16))
    if captions is not None:
        (path := partition_paths(tmp_path / "store", 0)["metadata"]).parent.mkdir(parents=True)
        pandas.DataFrame({"caption": captions}).to_parquet(path)
    store = Arm(name="store", pairs=tmp_path / "store")
    study = replace(
        study,
        arms=(*study.arms, store),
        filters=replace(study.filters, losses_of=(ARM, "store"), scores=None, columns=()),
    )
    study.write()
    told = []
    report = run_study(study, RunRequest(steps=("scores", FILTERS)), lambda progress: told.append(progress.message))
    assert report.failed == {}
    assert "store" in report.made[FILTERS]
    (line,) = (line for line in told if line.startswith("store has no losses: "))
    assert why in line
    assert not any(name.startswith("loss") for name in scored_pairs(study, "store").scores)
    assert "loss:benign" in scored_pairs(study, ARM).scores


def test_another_score_file_makes_the_step_stale(study):
    pandas.DataFrame({"uid": ["none"], "place": [1.0]}).to_parquet(study.filters.scores)
    state = next(each for each in study_state(study) if each.step == FILTERS)
    assert (state.state, state.arms[0].why) == ("stale", "changed: scores file")


def test_losses_of_another_precision_are_measured_again(study):
    def why(step):
        state = next(each for each in study_state(study, "bf16") if each.step == step)
        return state.state, {arm.why for arm in state.arms}

    assert why(FILTERS) == ("stale", {"changed: loss_precision"})
    assert why("scores")[0] == "done", "the control measures no losses here"
    recorded = Recorded.read(study, FILTERS).settings
    assert "loss_precision" not in recorded, "fp32, as before there was a choice"


def test_a_loss_model_is_no_arms_own_whatever_it_is_called():
    assert arm_named(loss_model("best of five")) is None
    assert arm_named(named("scores", "best of five")) == "best of five"


def test_alignment_of_what_remains_is_that_of_its_pairs(study):
    pairs = scored_pairs(study, ARM)
    inputs = study.folder / "features"
    opened = open_arm_pairs(study.arm(ARM), load_extractor(study.extractor), (), inputs)
    image, text = (features[pairs.columns["row"].astype(int)].double() for features in opened.features())
    disparity = (image @ image.T - text @ text.T).abs().fill_diagonal_(0).numpy()
    for recipe in (CLIP, CLIP | {"quota": 0.2}, {"any": [CLIP, {"uids": [pairs.uids[0]]}]}):
        kept = ~pairs.removal(read_recipe(recipe)).removed
        report = report_filter(study, ARM, read_recipe(recipe))
        assert report["alignment"]["structure_ad"] == pytest.approx(disparity[np.ix_(kept, kept)].mean(), rel=1e-5)
        distance = pairs.scores["feature_distance"][kept].mean()
        assert report["alignment"]["feature_ad"] == pytest.approx(distance, rel=1e-5)
        assert report["counts"]["poison_removed"] == (~kept & pairs.flags.poisoned).sum()
    assert report_filter(study, ARM, read_recipe(CLIP))["alignment"]["structure_from"] == "the score's curve"


def test_where_the_pairs_are_gone_what_is_stored_is_still_told(study):
    shutil.rmtree(study.arm(ARM).pairs)
    assert report_filter(study, ARM, read_recipe(CLIP))["alignment"]["ad"] > 0
    combined = report_filter(study, ARM, read_recipe({"all": [CLIP]}))["alignment"]
    assert combined["ad"] is None
    assert combined["structure_from"].startswith("unknown: ")
    assert combined["feature_ad"] > 0


def test_scores_of_other_pairs_than_the_arms_are_refused(study, tmp_path):
    def of(pairs):
        return replace(study, arms=tuple(replace(each, pairs=pairs) if each.name == ARM else each
                                         for each in study.arms))  # fmt: skip

    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "cat.png").write_bytes(b"picture")
    for others in (study.arm("benign").pairs, tmp_path / "pictures"):
        with pytest.raises(ValueError, match=rf"the pairs of {ARM} are others than .* study run .* filters"):
            current_scored_pairs(of(others), ARM)
    for same in (study.arm(ARM).pairs, tmp_path / "gone", None):
        assert current_scored_pairs(of(same), ARM).uids == scored_pairs(study, ARM).uids


def test_everything_removed_leaves_nothing_to_measure(study):
    everything = {"uids": scored_pairs(study, ARM).uids}
    report = report_filter(study, ARM, read_recipe(everything))
    assert (report["kept"], report["alignment"]["ad"]) == (0, None)


def test_a_chosen_threshold_is_graded_on_the_other_half(study):
    pairs = scored_pairs(study, ARM)
    found, told = held_out_report(pairs, read_recipe(CLIP), "half-the-poison", 0)
    assert recipe_json(found)["cut"] == {"threshold": told["threshold"]}
    assert told["chosen_on"]["pairs"] + told["graded_on"]["pairs"] == len(pairs)
    assert told["chosen_on"]["grade"]["recall"]["value"] >= 0.5


def test_two_filters_are_compared(study):
    pairs = scored_pairs(study, ARM)
    fewer, more = (read_recipe(CLIP | {"cut": {"rank": rank}}) for rank in (2, 5))
    told = compared(pairs, more, fewer)
    assert [told[part]["pairs"] for part in ("both", "only_this", "only_against")] == [2, 3, 0]
    assert told["jaccard"] == pytest.approx(0.4)


def recorded_of(pairs, known):
    """The same pairs, of which it is recorded of the first ``known`` alone whether they are poison."""
    at = np.arange(len(pairs)) < known
    flags = PoisonFlags(poisoned=pairs.flags.poisoned & at, benign=pairs.flags.benign & at)
    pairs.__dict__["flags"] = flags
    return pairs


def test_pairs_of_which_nothing_is_recorded_are_not_counted_as_none(study):
    fewer, more = (read_recipe(CLIP | {"cut": {"rank": rank}}) for rank in (2, 5))
    pairs = recorded_of(scored_pairs(study, ARM), 0)
    told = compared(pairs, more, fewer)["only_this"]
    assert told == {"pairs": 3, "poison": None, "benign": None, "unrecorded": 3}
    assert _counted(told) == "3 pairs, 3 of which it is not recorded"
    counts = filter_report(pairs, more, lambda kept: 0.0)["counts"]
    assert counts.pop("unrecorded_removed") == 5
    assert set(counts.values()) == {None}
    removed = pairs.removal(more).removed
    half = recorded_of(scored_pairs(study, ARM), int(np.flatnonzero(removed)[2]) + 1)
    both = [compared(half, more, more)["both"][kind] for kind in ("poison", "benign", "unrecorded")]
    assert (sum(both[:2]), both[2]) == (3, 2)
    assert _counted(compared(half, more, more)["both"]).endswith(", 2 of which it is not recorded")


def test_filters_are_saved_by_name(study):
    assert saved_filters(study) == {}
    recipe = read_recipe(CLIP)
    save_filter(study, "strict", recipe)
    assert saved_filters(study) == {"strict": recipe}
    assert saved_filter(study, "strict") == recipe
    with pytest.raises(ValueError, match=r"expected one that is saved in .*filters: strict$"):
        saved_filter(study, "../strict")
    with pytest.raises(ValueError, match="expected a name that a file can have"):
        save_filter(study, "a/b", recipe)
    (study.folder / "filters" / "bad.json").write_text("{}")
    with pytest.raises(ValueError, match=r"bad\.json: a filter recipe has nothing"):
        saved_filters(study)


def test_kept_and_removed_pairs_are_the_set(study):
    pairs, recipe = scored_pairs(study, ARM), read_recipe(CLIP)
    kept, removed = (json.loads(filtered_pairs(pairs, recipe, "json", which)) for which in ("kept", "removed"))
    assert sorted(kept["uids"] + removed["uids"]) == sorted(pairs.uids)
    assert (len(removed["uids"]), removed["recipe"], removed["which"]) == (3, CLIP | {"quota": None}, "removed")
    lines = filtered_pairs(pairs, recipe, "csv", "removed").decode("utf-8-sig").splitlines()
    assert lines[0].startswith("uid,caption,concept,kind,clip_similarity")
    assert [line.split(",")[0] for line in lines[1:]] == removed["uids"]
    with pytest.raises(ValueError, match="which is 'all'"):
        filtered_pairs(pairs, recipe, "json", "all")


def test_a_pack_answers_for_its_cuts_and_names_no_place(study, tmp_path):
    export_study(study, tmp_path / "pack.zip")
    packed = import_results(tmp_path / "pack.zip", tmp_path / "elsewhere")
    assert (packed.filters.scores, packed.filters.loss_arms) == (None, study.filters.loss_arms)
    here, there = (report_filter(each, ARM, read_recipe(CLIP)) for each in (study, packed))
    assert here == there


def test_an_arm_without_the_step_names_the_command(study):
    shutil.rmtree(study.results / FILTERS)
    with pytest.raises(ManifestError, match=r"study run .* filters"):
        scored_pairs(study, ARM)
    with pytest.raises(ValueError, match="arm is 'none'"):
        scored_pairs(study, "none")


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ({"loss_pairs": -1}, "loss_pairs of filters is -1"),
        ({"columns": ("a",)}, "expected both or neither"),
    ],
)
def test_settings_of_filters_are_checked(spec, problem):
    with pytest.raises(ValueError, match=problem):
        FiltersSpec(**spec)


def test_loss_arms_must_be_arms(study):
    with pytest.raises(ValueError, match="loss_arms of filters name 'none'"):
        replace(study, filters=FiltersSpec(loss_arms=("none",)))
    assert Study.load(study.folder).filters == study.filters


def test_a_half_without_both_kinds_has_no_grade(study):
    pairs = recorded_of(scored_pairs(study, ARM), 0)
    found, told = held_out_report(pairs, read_recipe(CLIP), "cut", 0)
    halves = [told["chosen_on"], told["graded_on"]]
    assert [half["grade"] for half in halves] == [None, None]
    unrecorded = sum(half["counts"].pop("unrecorded_removed") for half in halves)
    assert unrecorded == filter_report(pairs, found, lambda kept: 0.0)["removed"]
    assert {count for half in halves for count in half["counts"].values()} == {None}
