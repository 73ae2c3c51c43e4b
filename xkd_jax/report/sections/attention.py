"""Where the last layer of each network looks."""

from xkd_jax.report import attention
from xkd_jax.report.networks import Networks
from xkd_jax.report.page import Section, escape, image, tabs
from xkd_jax.report.survey import Survey

_SHOWN = 2  # examples


def build(networks: Networks, survey: Survey) -> Section:
    """Where the last layer of each network looks."""
    section = Section("attention", "Attention")
    section.say(
        "What the CLS token attends to in the last block: bright is much, each map on a scale of "
        "its own. Refinement scales the heads by what the other modality attends to, so that it "
        "changes their mean, not the picture of one head."
    )
    shifts = {
        f"{network}/{m}": attention.shift(made.attention, made.refined_attention)
        for (network, m), made in survey.encoded.items()
        if made.refined_attention is not None
    }
    if shifts:
        moved = ", ".join(f"{name.replace('/', ' of ')} {x:.2%}" for name, x in shifts.items())
        section.say(f"Share of the weight that refinement moves to other tokens: {moved}.", "faint")
    section.numbers = {"moved_by_refinement": shifts}
    lay = {"video": attention.over_frames, "audio": attention.over_spectrogram}
    for k, n in enumerate(survey.examples[:_SHOWN]):
        for m in survey.clips.views:
            view, patches = survey.clips.views[m][n], networks.grid(m)
            contents, strips = {}, {m: lay[m](view, None, patches)}
            style = 'class="flat"' if m == "audio" else ""
            for network in networks.networks_of(m):
                made = survey.encoded[network, m]
                refined = made.refined_attention
                maps = attention.maps(made.attention[n], None if refined is None else refined[n])
                laid = {x.name: lay[m](view, x.weights, patches) for x in maps}
                strips |= {f"{network}, {name}": pixels for name, pixels in laid.items()}
                rows = {("frames" if m == "video" else "log-mel"): strips[m]} | laid
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
