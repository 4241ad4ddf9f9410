"""Text from outside (labels, file names) made safe for a terminal, Markdown and HTML."""

from __future__ import annotations

import re
from html import escape


def visible(text: str) -> str:
    r"""What would move the cursor, reorder or hide text is written out; the rest stays.

    >>> visible("a\x1b[31m")
    'a\\x1b[31m'
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def markdown_safe(text: str) -> str:
    """Text that Markdown and the HTML inside it show as it is.

    >>> markdown_safe("a|b <i> `c` @me")
    'a&#124;b &lt;i&gt; &#96;c&#96; &#64;me'
    """
    plain = escape(visible(text), quote=False)
    return re.sub(r"[|`*_\[\]!\\~@#]", lambda m: f"&#{ord(m[0])};", plain.replace("&#", "&amp;#"))


def html_safe(value: object) -> str:
    """Text for an HTML element or a quoted attribute.

    >>> html_safe('<a href="x">')
    '&lt;a href=&quot;x&quot;&gt;'
    """
    return escape(visible(str(value)), quote=True)
