"""The training tool on tiny synthetic pictures: seconds, not hours, through the same code."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from edict_engine.model import load_model
from tests.tools.tiny import CPU, ROOT, make_work
from tools.train_demo_model import (
    comparison,
    diffusion,
    stages,
    tokenizer,
    training,
    vae,
)
from tools.train_demo_model.files import (
    checkpoint_state,
    load_checkpoint,
    replaced,
    save_checkpoint,
)
from tools.train_demo_model.foreign import StableDiffusionPipeline
from tools.train_demo_model.photographs import find_photographs
from tools.train_demo_model.recipe import Stage
from tools.train_demo_model.stages import Workplace


class TestTokenizer:
    def test_words_of_the_captions_are_one_token_and_others_fall_apart(self, tmp_path):
        words = tokenizer.build(["a photo of red apples", "apples at night"], 24, tmp_path)

        assert words.tokenize("apples at night") == ["apples</w>", "at</w>", "night</w>"]
        assert len(words.tokenize("zebra")) > 1

    def test_ids_are_padded_with_the_end(self, tmp_path):
        words = tokenizer.build(["red apples"], 8, tmp_path)

        ids = tokenizer.token_ids(words, ["red apples", ""])

        assert ids.shape == (2, 8)
        assert ids[1].tolist() == [words.bos_token_id, *[words.eos_token_id] * 7]


class TestTraining:
    def test_a_file_that_was_being_written_leaves_the_former_one(self, tmp_path):
        path = tmp_path / "checkpoint.safetensors"
        save_checkpoint(path, {"a": torch.ones(2)}, {"step": 1})

        with contextlib.suppress(KeyboardInterrupt), replaced(path) as unfinished:
            unfinished.write_bytes(b"half of it")
            raise KeyboardInterrupt

        found = load_checkpoint(path)
        assert found is not None
        assert found[1] == {"step": 1}

    @pytest.mark.parametrize("stage", ["vae", "decoder", "diffusion"])
    def test_a_run_that_is_killed_and_resumed_ends_like_one_that_was_not(
        self, stage, trained, tmp_path, photographs, recipe
    ):
        undisturbed, _ = trained
        place = make_work(tmp_path / "work", recipe, photographs)
        if stage != "vae":
            stages.vae(place)

        killed = self._run_until_killed(stage, place, tmp_path)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        getattr(stages, stage)(place)

        ended = load_file(place.folder / f"{stage}.safetensors")
        expected = load_file(undisturbed.folder / f"{stage}.safetensors")
        assert ended.keys() == expected.keys()
        assert all(torch.equal(ended[name], expected[name]) for name in expected)

    def _run_until_killed(self, stage, place, folder):
        """Train in another process, which dies by SIGKILL two steps after its last checkpoint."""
        script = folder / "killed.py"
        script.write_text(f"""
import os, signal, torch
from pathlib import Path
from tools.train_demo_model import stages, training
from tools.train_demo_model.recipe import Recipe
torch.set_num_threads(1)
follow = training.Training._follow
def follow_and_die(self):
    follow(self)
    if self.step == 2:
        self.save()
    if self.step == 4:
        os.kill(os.getpid(), signal.SIGKILL)
training.Training._follow = follow_and_die
recipe = Recipe.model_validate_json('''{place.recipe.model_dump_json()}''')
place = stages.Workplace(Path({str(place.folder)!r}), recipe, torch.device("cpu"))
stages.{stage}(place)
""")
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        return subprocess.run(
            [sys.executable, script], cwd=ROOT, env=environment, capture_output=True, text=True
        )

    def test_a_checkpoint_of_another_recipe_is_refused(self, trained):
        place, _ = trained
        other = place.recipe.model_copy(update={"weight_limit": 1.0})

        with pytest.raises(ValueError, match="was made by another recipe"):
            stages.diffusion_training(Workplace(place.folder, other, CPU))

    def test_an_autoencoder_of_another_recipe_is_refused(self, trained):
        place, _ = trained
        other = place.recipe.model_copy(update={"vae": Stage(steps=7, batch=2, rate=0.001)})

        with pytest.raises(ValueError, match="was made by another recipe"):
            stages.vae(Workplace(place.folder, other, CPU))

    @pytest.mark.parametrize("stage", ["vae", "decoder"])
    def test_what_an_earlier_recipe_left_is_not_taken_for_finished_after_a_kill(
        self, stage, trained, tmp_path
    ):
        # Given a finished work, whose checkpoint is removed as the refusal of another recipe says
        place = Workplace(tmp_path / "work", trained[0].recipe, CPU)
        shutil.copytree(trained[0].folder, place.folder)
        (place.folder / f"{stage}.safetensors").unlink()
        other = place.recipe.model_copy(update={stage: Stage(steps=6, batch=3, rate=0.002)})
        anew = Workplace(place.folder, other, CPU)

        # When the new training is killed and taken up again
        assert self._run_until_killed(stage, anew, tmp_path).returncode == -signal.SIGKILL
        getattr(stages, stage)(anew)

        # Then it goes to its end, and what it leaves takes the place of the former
        assert checkpoint_state(place.folder / f"{stage}.safetensors")["step"] == 6
        name = {"vae": "vae", "decoder": "vae-finished"}[stage]
        weights = "diffusion_pytorch_model.safetensors"
        before, after = (load_file(p.folder / name / weights) for p in (trained[0], anew))
        assert any(not torch.equal(before[key], after[key]) for key in before)

    def test_the_log_averages_the_steps_since_its_last_line_after_a_resumption_too(
        self, tmp_path, monkeypatch
    ):
        monkeypatch.setattr(training, "LOG_EVERY", 4)

        def train(steps):
            layer = torch.nn.Linear(1, 1)
            return training.Training(
                layer,
                lambda step: (layer(torch.ones(1)).sum(), {"number": float(step)}),
                Stage(steps=steps, batch=1, rate=0.001),
                tmp_path / "run.safetensors",
                "digest",
            ).run(lambda _: None)

        train(6)  # ended two steps after its last line
        train(8)

        lines = (tmp_path / "run.jsonl").read_text().splitlines()
        assert [json.loads(line)["number"] for line in lines] == [1.5, 6.5]

    def test_the_decoders_second_training_leaves_the_latents_as_they_are(self, trained):
        place, _ = trained
        before, after = (
            load_file(place.folder / name / "diffusion_pytorch_model.safetensors")
            for name in ("vae", "vae-finished")
        )

        changed = {name for name in before if not torch.equal(before[name], after[name])}

        assert changed
        assert all(name.startswith(("decoder.", "post_quant_conv.")) for name in changed)

    def test_a_signal_passes_through_the_untrained_autoencoder(self, recipe):
        torch.manual_seed(0)
        network = vae.build(recipe)
        posterior = network.encode(torch.rand(4, 3, 32, 32) * 2 - 1).latent_dist

        assert 0.1 < posterior.mean.std() < 10
        assert posterior.std.max() < 0.5 * posterior.mean.std()

    def test_noise_and_v_are_weighted_so_that_both_losses_are_the_same(self, recipe):
        alphas = diffusion.alphas_cumprod()
        clean, noise, guess = torch.randn(3, 1000, 2)
        a = alphas[:, None]
        noised = a.sqrt() * clean + (1 - a).sqrt() * noise
        v = a.sqrt() * noise - (1 - a).sqrt() * clean

        by_noise = diffusion.loss_weights(recipe, alphas) * ((guess - noise) ** 2).mean(1)
        of_v = recipe.model_copy(update={"prediction": "v_prediction"})
        v_guess = (guess - (1 - a).sqrt() * noised) / a.sqrt()
        by_v = diffusion.loss_weights(of_v, alphas) * ((v_guess - v) ** 2).mean(1)

        assert torch.allclose(by_noise, by_v, rtol=1e-2, atol=1e-3)

    def test_whitened_latents_are_uncorrelated_and_pictures_stay(self, recipe):
        torch.manual_seed(0)
        network = vae.build(recipe).eval()
        pixels = np.random.default_rng(0).integers(0, 255, (64, 32, 32, 3), np.uint8)
        pictures = vae.to_tensor(pixels)
        with torch.no_grad():
            before = network.decode(network.encode(pictures).latent_dist.mode()).sample

            vae.whiten(network, pixels)

            posterior = network.encode(pictures).latent_dist
            after = network.decode(posterior.mode()).sample
        latents = (posterior.mode() * vae.SCALING).transpose(0, 1).flatten(1)
        assert torch.allclose(latents.mean(1), torch.zeros(3), atol=0.05)
        assert torch.allclose(torch.cov(latents), torch.eye(3), atol=0.05)
        assert torch.allclose(before, after, atol=0.02)
        assert posterior.std.max() < 0.01


class TestFinishedModel:
    def test_diffusers_loads_it_and_paints(self, trained):
        _, model = trained
        pipeline = StableDiffusionPipeline.from_pretrained(model, dtype=torch.float32)
        pipeline.set_progress_bar_config(disable=True)

        made = pipeline("red apples", num_inference_steps=2, output_type="np").images

        assert made.shape == (1, 32, 32, 3)
        assert np.isfinite(made).all()

    def test_the_engine_loads_it(self, trained):
        _, model = trained

        loaded = load_model(model)

        assert loaded.default_size == 32
        assert loaded.max_tokens == 48

    def test_weights_are_float16_safetensors_and_nothing_is_pickled(self, trained):
        _, model = trained
        weights = list(model.rglob("*.safetensors"))

        assert len(weights) == 3
        for path in weights:
            kinds = {v.dtype for v in load_file(path).values() if v.is_floating_point()}
            assert kinds == {torch.float16}
        assert {p.suffix for p in model.rglob("*") if p.is_file()} <= {".safetensors", ".json"}

    def test_a_finished_folder_is_not_overwritten(self, trained):
        place, model = trained
        with pytest.raises(FileExistsError, match="holds a model already"):
            stages.export(place, model)

    def test_a_model_of_another_recipe_is_in_the_way_and_an_empty_folder_is_not(
        self, trained, tmp_path
    ):
        place, model = trained
        other = Workplace(place.folder, place.recipe.model_copy(update={"seed": 5}), CPU)

        assert stages.is_exported(place, model)
        assert not stages.is_exported(place, tmp_path)
        with pytest.raises(FileExistsError, match="something else than the model of this recipe"):
            stages.is_exported(other, model)


class TestComparison:
    @pytest.mark.parametrize(
        ("said", "names"),
        [
            ("a photo of red apples", True),
            ("a pencil sketch of a dress", True),
            ("a photo at night", False),
            ("a photo of a red cup", False),
        ],
    )
    def test_captions_that_name_the_thing_are_told_from_others(self, said, names):
        assert comparison.names_the_thing(said) == names

    @pytest.mark.slow
    def test_every_variant_is_trained_for_as_long_and_has_a_row(
        self, trained, photographs, monkeypatch
    ):
        # The variants of another width would not be tiny.
        alike = [v for v in comparison.VARIANTS if v.name not in ("narrower", "wider")]
        monkeypatch.setattr(comparison, "VARIANTS", alike)
        # The log comes before the first checkpoint makes the folder.
        monkeypatch.setattr(training, "LOG_EVERY", 1)
        place, _ = trained

        folder = stages.compare(place, find_photographs(*photographs), steps=2)

        text = (folder / "COMPARISON.md").read_text()
        assert "2 steps of 2 pictures each" in text
        assert all(f"| {variant.name} |" in text for variant in comparison.VARIANTS)
