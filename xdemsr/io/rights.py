"""Options of fsspec's file systems, as GDAL takes them: GeoTIFFs and stores are asked alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rasterio.session import Session

from xdemsr.errors import InputError

#: GDAL's options, by the option of fsspec and the schemes of URLs.
_AMAZON = {
    "key": "AWS_ACCESS_KEY_ID",
    "secret": "AWS_SECRET_ACCESS_KEY",
    "token": "AWS_SESSION_TOKEN",
    "profile": "AWS_PROFILE",
    "anon": "AWS_NO_SIGN_REQUEST",
    "region_name": "AWS_REGION",
    "endpoint_url": "AWS_S3_ENDPOINT",
    "requester_pays": "AWS_REQUEST_PAYER",
}
_GOOGLE = {"token": "GOOGLE_APPLICATION_CREDENTIALS", "anon": "GS_NO_SIGN_REQUEST"}
_AZURE = {
    "account_name": "AZURE_STORAGE_ACCOUNT",
    "account_key": "AZURE_STORAGE_ACCESS_KEY",
    "connection_string": "AZURE_STORAGE_CONNECTION_STRING",
    "sas_token": "AZURE_STORAGE_SAS_TOKEN",
    "anon": "AZURE_NO_SIGN_REQUEST",
}
_KNOWN = {"s3": _AMAZON, "gs": _GOOGLE, "az": _AZURE}


class Rights(Session):  # type: ignore[misc]
    """Options by which GDAL is let in, in the only form in which rasterio takes them."""

    def __init__(self, options: Mapping[str, str]) -> None:
        self._options = dict(options)

    def get_credential_options(self) -> dict[str, str]:
        """GDAL's options."""
        return dict(self._options)


def rights_of(scheme: str, storage_options: Mapping[str, Any] | None) -> dict[str, str]:
    """GDAL's options for what fsspec's say.

    Parameters
    ----------
    scheme : str
        Of a URL.
    storage_options : mapping, optional

    Raises
    ------
    InputError
        If one of them has no meaning for GDAL.
    """
    if not storage_options:
        return {}
    known = _KNOWN.get(scheme, {})
    # s3fs takes some in a mapping for the client.
    said = {**storage_options, **storage_options.get("client_kwargs", {})}
    said.pop("client_kwargs", None)
    unknown = [key for key in said if key not in known]
    if unknown:
        raise InputError(
            f"storage_options {', '.join(unknown)} mean nothing to GDAL, which reads GeoTIFFs at "
            f"{scheme}://; it takes {', '.join(known) or 'none'}. Set GDAL's own options in the "
            "environment of the workers."
        )
    options = {known[key]: _as_text(known[key], value) for key, value in said.items() if value}
    if str(said.get("endpoint_url", "")).startswith("http://"):
        options["AWS_HTTPS"] = "NO"
    if said.get("endpoint_url"):
        options["AWS_VIRTUAL_HOSTING"] = "FALSE"
    return options


def _as_text(name: str, value: Any) -> str:
    if value is True:
        return "requester" if name == "AWS_REQUEST_PAYER" else "YES"
    return str(value).partition("://")[2].rstrip("/") if name == "AWS_S3_ENDPOINT" else str(value)
