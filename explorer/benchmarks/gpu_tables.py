"""A GPU run's figures as Markdown, for docs/benchmarks.md."""

from __future__ import annotations

from typing import Any

Report = dict[str, Any]
NOT_MEASURED = "not measured"


def gpu_section(figures: Report) -> str:
    """Everything that runs of the kit measured, with the card that gave it; what they did not is said.

    Args:
        figures: by part, each with its ``status`` and ``code_version``.
    """
    tables = {
        "Exact structure AD": ("alignment", _alignment),
        "Attention capture at SD 1.5's size": ("capture", _capture),
        "Fine-tuning SD 1.5 at 512 pixels": ("training_sd15", _training),
        "The same, our step recorded and replayed": ("training_sd15_recorded", _training),
        "Fine-tuning SDXL at 1024 pixels": ("training_sdxl", _training),
        "Embedding extraction": ("embeddings", _embeddings),
        "Clean-label perturbation": ("clean_label", _clean_label),
        "CUDA tests": ("cuda-tests", _tests),
        "The full world": ("world", _world),
    }
    lines = [_machine(figures.get("machine", {}))]
    for title, (name, table) in tables.items():
        found = figures.get(name, {})
        status = found.get("status", NOT_MEASURED)
        ended = f"code {found['code_version']}" if status == "done" else status
        # Beside what is said of every part, a part that came to no figure says nothing.
        measured = found.keys() - {"status", "code_version"}
        lines += ["", f"**{title}** ({ended})", "", *(table(found) if measured else [NOT_MEASURED + "."])]
    return "\n".join(lines)


def _machine(found: Report) -> str:
    packages = found.get("packages", {})
    shown = ", ".join(f"{name} {packages[name]}" for name in ("torch", "triton", "diffusers") if name in packages)
    return f"{found.get('device', 'An unknown card')}, {found.get('cores', 'unknown')} cores, {shown}."


def _alignment(found: Report) -> list[str]:
    lines = ["| peer | N | seconds (quartiles) | memory beyond the features | of the fp16 matmul rate |",
             "|---|---:|---:|---:|---:|"]  # fmt: skip
    for row in found.get("results", []):
        seconds, share = row["note"], row.get("share_of_matmul_rate")
        if row["seconds"] is not None:
            low, high = row["seconds_lower_quartile"], row["seconds_upper_quartile"]
            seconds = f"{row['seconds']:.3g} ({low:.3g} to {high:.3g})"
        memory = "" if row["peak_bytes"] is None else f"{row['peak_bytes'] / 1e6:.0f} MB"
        lines.append(
            f"| {row['peer']} | {row['n']} | {seconds} | {memory} | {'' if share is None else f'{share:.2f}'} |"
        )
    lines.append("")
    for row in found.get("ratios", []):
        spread = f"{row['ratio_lower_quartile']:.2f} to {row['ratio_upper_quartile']:.2f}"
        goal = f"; goal {row['goal']}" if row["goal"] else ""
        lines.append(f"- {row['name']} at N = {row['n']}: {row['ratio']:.2f} ({spread}{goal})")
    if one := found.get("landmarks"):
        lines.append(
            f"- {one['samples']} landmarks of N = {one['n']}: {min(one['seconds']):.3g} s, "
            f"{one['features_bytes'] / 1e9:.1f} GB of features, standard error {one['standard_error']:.1e}"
        )
    return lines + _errors(found)


def _capture(found: Report) -> list[str]:
    lines = ["| precision | capture | seconds | against none (quartiles) |", "|---|---|---:|---:|"]
    for precision, costs in found.get("captures", {}).items():
        for name, cost in costs.items():
            spread = f"{cost['ratio_lower_quartile']:.3f} to {cost['ratio_upper_quartile']:.3f}"
            lines.append(f"| {precision} | {name} | {cost['seconds']:.3g} | {cost['ratio']:.3f} ({spread}) |")
    return [*lines, "", f"Goal for ours: at most {found.get('goal')}.", *_errors(found)]


def _training(found: Report) -> list[str]:
    lines = ["| loop | samples/s (quartiles) | peak memory |", "|---|---:|---:|"]
    peaks = found.get("peak_bytes", {})
    for name, rate in found.get("samples_per_second", {}).items():
        spread = f"{rate['lower_quartile']:.2f} to {rate['upper_quartile']:.2f}"
        memory = NOT_MEASURED if peaks.get(name) is None else f"{peaks[name] / 1e9:.1f} GB"
        lines.append(f"| {name} | {rate['median']:.2f} ({spread}) | {memory} |")
    ratio = found.get("speedup", {}).get("median", found.get("speedup_of_medians"))
    ours = NOT_MEASURED if ratio is None else f"{ratio:.2f}"
    said = f"Ours / plain: {ours}; goal {found.get('goal')}. Batch {found.get('batch_size')}, {found.get('precision')}."
    return [*lines, "", said, *_errors(found)]


def _embeddings(found: Report) -> list[str]:
    rate = found.get("extraction")
    if rate is None:
        return [NOT_MEASURED + ".", *_errors(found)]
    spread = f"{rate['speed_up_lower_quartile']:.2f} to {rate['speed_up_upper_quartile']:.2f}"
    return [
        f"{found['model']}: {rate['pairs_per_second']:.0f} pairs/s with {found['workers']} threads that decode; ours / "
        f"the plain loop, which {found['plain_loop']}, {rate['speed_up']:.2f} ({spread}).",
        *_errors(found),
    ]


def _clean_label(found: Report) -> list[str]:
    lines = ["| autoencoder | pixels | precision | one batch, pictures/s | one at a time | ratio (quartiles) | goal |",
             "|---|---:|---|---:|---:|---|---:|"]  # fmt: skip
    for name, one in found.get("perturbations", {}).items():
        ours, plain = one["pictures_per_second"].values()
        ratio = one["speedup"]
        lines.append(
            f"| {name} | {one['side']} | {one['precision']} | {ours['median']:.3g} | {plain['median']:.3g} | "
            f"{ratio['median']:.2f} ({ratio['lower_quartile']:.2f} to {ratio['upper_quartile']:.2f}) | {one['goal']} |"
        )
    return [*lines, *_errors(found)]


def _tests(found: Report) -> list[str]:
    failed = "".join(f"\n- failed: `{name}`" for name in found["failed"])
    ended = f"{len(found['failed'])} failed, {len(found['skipped'])} skipped, {found['not_ended']} did not end in time"
    return [f"{found['passed']} of {found['tests']} passed; {ended}.{failed}"]


def _world(found: Report) -> list[str]:
    lines = ["| stage | steps | batch | steps/s | samples | seconds |", "|---|---:|---:|---:|---:|---:|"]
    for name, one in found["stages"].items():
        runs = f"{one['runs']} x " if one["runs"] > 1 else ""
        lines.append(
            f"| {name.replace('_', '-')} | {runs}{one['steps']} | {one['batch_size']} | "
            f"{1 / one['seconds_per_step']:.1f} | {runs}{one['samples']} | {one['seconds']:.0f} |"
        )
    return lines


def _errors(found: Report) -> list[str]:
    return [f"- {name}: {one['error']}" for name, one in found.get("errors", {}).items()]
