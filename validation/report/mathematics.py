"""Mathematics on the page: the symbols that plain text names (t_c, beta_*, sigma, log P / N) as MathML."""

from __future__ import annotations

import re
from functools import lru_cache

from markupsafe import Markup, escape

__all__ = ["mathematics", "mathml"]

_SYMBOLS = {
    r"log P / N": r"\log P/N",
    r"alpha = log P / N": r"\alpha=\log P/N",
    r"exp\(alpha N\)": r"e^{\alpha N}",
    r"t = sigma(?:²|\^2)": r"t=\sigma^2",
    r"t_c\^mu": r"t_c^{\mu}",
    r"t_cond": r"t_{\text{cond}}",
    r"t_o": "t_o",
    r"t_c": "t_c",
    r"t_g": "t_g",
    r"beta_\*": r"\beta_*",
    r"alpha_D": r"\alpha_D",
    r"alpha-bar": r"\bar{\alpha}",
    r"N → ∞": r"N\to\infty",
    r"sigma²": r"\sigma^2",
    r"C_T": "C_T",
    r"alpha": r"\alpha",
    r"sigma": r"\sigma",
    r"-tJ": "-tJ",
    r"[tPN]": None,  # themselves
}
_EDGE = r"(?<![\w'’.-]){}(?![\w'’-])(?!\.\w)"
_PATTERN = re.compile(_EDGE.format(f"(?:{'|'.join(sorted(_SYMBOLS, key=len, reverse=True))})"))
_KEYS = [(re.compile(key), tex) for key, tex in _SYMBOLS.items()]


@lru_cache(maxsize=1024)
def mathml(tex: str, *, block: bool = False) -> Markup:
    """TeX mathematics as a MathML element, by latex2mathml.

    >>> print(mathml("t_c"))
    <math xmlns="http://www.w3.org/1998/Math/MathML" display="inline"><mrow><msub><mi>t</mi><mi>c</mi></msub></mrow></math>
    """
    from latex2mathml.converter import convert

    return Markup(convert(tex, display="block" if block else "inline"))


def mathematics(text: object) -> Markup:
    """Plain text as HTML: escaped, its symbols as MathML, what stands between backticks as code.

    >>> print(mathematics("below <t_c>")[:28])
    below &lt;<math xmlns="http:
    >>> print(mathematics("`geomem audit t_c`"))
    <code>geomem audit t_c</code>
    """
    if isinstance(text, Markup):
        return text
    parts = re.split(r"`([^`]*)`", str(text))
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if k % 2 else _typeset(part) for k, part in enumerate(parts)
    )


def _typeset(text: str) -> Markup:
    """Escaped, but for the symbols."""
    out, end = Markup(""), 0
    for match in _PATTERN.finditer(text):
        tex = next(tex or match[0] for key, tex in _KEYS if key.fullmatch(match[0]))
        out += escape(text[end : match.start()]) + mathml(tex)
        end = match.end()
    return out + escape(text[end:])
