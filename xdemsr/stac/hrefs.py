"""Where assets are: URLs with and without what is secret in them, and GDAL's names for them."""

from __future__ import annotations

from urllib.parse import parse_qsl, unquote, urlencode, urlsplit, urlunsplit

#: Query parameters that prove a right to read: those of Azure, of Amazon, of Google, and others'.
_SECRET = {
    *("sig", "se", "sp", "st", "sv", "sr", "ss", "srt", "spr", "sip", "saoid"),
    *("skoid", "sktid", "skt", "ske", "sks", "skv"),
    *("awsaccesskeyid", "googleaccessid", "expires", "signature", "policy", "key-pair-id"),
    *("token", "access_token", "api_key", "apikey", "subscription-key", "hdnts"),
}
_SECRET_PREFIXES = ("x-amz-", "x-goog-")
#: Those without which the others prove nothing.
_SIGNATURES = {"sig", "signature", "token", "access_token", "x-amz-signature", "x-goog-signature"}

#: GDAL's name for a place in a cloud.
_CLOUDS = {
    "s3": "/vsis3/",
    "gs": "/vsigs/",
    "gcs": "/vsigs/",
    "az": "/vsiaz/",
    "abfs": "/vsiaz/",
    "http": "/vsicurl/",
    "https": "/vsicurl/",
}


def is_web(href: str) -> bool:
    """Whether it is read through HTTP."""
    return urlsplit(href).scheme in ("http", "https")


def is_signed(href: str) -> bool:
    """Whether a right to read is a part of it."""
    return any(key.lower() in _SIGNATURES for key, _ in parse_qsl(urlsplit(href).query))


def unsigned(href: str) -> str:
    """The address alone, without rights, users or passwords: what names and graphs may hold."""
    if not urlsplit(href).netloc:
        return href
    parts = urlsplit(href)
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    kept = urlencode([(key, value) for key, value in pairs if not _is_secret(key)])
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, kept, ""))


def public(href: str) -> str:
    """What an address is called in messages: without its query."""
    parts = urlsplit(href)
    if not parts.netloc:
        return href
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def gdal_path(href: str) -> str:
    """What GDAL opens it by."""
    scheme = urlsplit(href).scheme
    if scheme == "file":
        return unquote(urlsplit(href).path)
    if scheme not in _CLOUDS:
        return href
    return _CLOUDS[scheme] + (href if is_web(href) else href.split("://", 1)[1])


def _is_secret(key: str) -> bool:
    return key.lower() in _SECRET or key.lower().startswith(_SECRET_PREFIXES)
