"""The section that shows where the last layer of each network attends."""

from xkd_jax.encoders.networks import Networks
from xkd_jax.report import attention
from xkd_jax.report.page import Section, escape, image, tabs
from xkd_jax.report.survey import Survey

_SHOWN = 2  # examples
_WHO = {
    "cls": "What the CLS token attends to",
    "mean": "What the mean of all queries attends to",
    "rows": "What the patches attend to, on average,",
}


def build(networks: Networks, survey: Survey) -> Section:
    """Builds the section with the attention maps of the example clips."""
    section = Section("attention", "Attention")
    query = networks.observer().query
    section.say(
        f"{_WHO[query]} in the last block. Brighter means more attention; each map "
        "has its own scale. Refinement scales each head by the other modality's attention, so it "
        "changes the mean of the heads, not the map of one head. Where it moves little, both means "
        "look alike."
    )
    shifts = {
        f"{network}/{m}": attention.shift(out.attention, out.refined_attention)
        for (network, m), out in survey.encoded.items()
        if out.refined_attention is not None
    }
    if shifts:
        moved = ", ".join(f"{name.replace('/', ' of ')} {x:.2%}" for name, x in shifts.items())
        section.say(f"Share of the weight that refinement moves to other tokens: {moved}.", "faint")
    section.numbers = {"moved_by_refinement": shifts}
    overlay = {"video": attention.over_frames, "audio": attention.over_spectrogram}
    for k, n in enumerate(survey.examples[:_SHOWN]):
        for m in survey.clips.views:
            view, patches = survey.clips.views[m][n], networks.grid(m)
            contents, strips = {}, {m: overlay[m](view, None, patches)}
            style = 'class="flat"' if m == "audio" else ""
            for network in networks.networks_of(m):
                out = survey.encoded[network, m]
                refined = out.refined_attention
                maps = attention.maps(out.attention[n], None if refined is None else refined[n])
                overlays = {x.name: overlay[m](view, x.weights, patches) for x in maps}
                strips |= {f"{network}, {name}": pixels for name, pixels in overlays.items()}
                rows = {("frames" if m == "video" else "log-mel"): strips[m]} | overlays
                contents[network] = "".join(
                    f'<div class="strip"><span>{escape(name)}</span>'
                    f"{image(pixels, f'{network} of {m}: {name}', style)}</div>"
                    for name, pixels in rows.items()
                )
            title = f"<h3>{m}: {escape(survey.title(n))}</h3>"
            inner = tabs("network:", contents, next(iter(contents)))
            section.add(f'<div class="card">{title}{inner}</div>')
            section.pictures[f"attention_{m}_{k + 1}"] = attention.montage(strips)
    return section
