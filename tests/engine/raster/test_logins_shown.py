"""Logins in every form that connections, options and inline XML know: neither shown nor part of a raster's name."""

from __future__ import annotations

import pytest
from deep_raster.engine.raster.remote import hushed, shown, with_paths, without_credentials
from deep_raster.engine.raster.secrets import fill, hide

OLD, NEW = "0ld-s3cr3t", "n3w-s3cr3t"
TILES = (
    '<GDAL_WMS><Service name="WMS"><ServerUrl>https://h.example/wms?map=1&amp;token={0}&amp;layer=3</ServerUrl></Service>'
    "<UserPwd>me:{0}</UserPwd><DataWindow><SizeX>300</SizeX></DataWindow></GDAL_WMS>"
)
WITH_LOGIN = [
    TILES,
    "<GDAL_WMS><userpwd >me:{0}</userpwd><SizeX>3</SizeX></GDAL_WMS>",
    "<GDAL_WMS><UserPwd><![CDATA[me:<{0}]]></UserPwd><SizeX>3</SizeX></GDAL_WMS>",
    '<VRTDataset><OpenOptions><OOI key="USERPWD">me:{0}</OOI><OOI key="LEVEL">3</OOI></OpenOptions></VRTDataset>',
    "GDAL_HTTP_USERPWD=me:{0}",
    "USERPWD=me:{0}",
    "GDAL_HTTP_PROXY=ME:{0}@proxy.example:8080",
    "GDAL_HTTP_BEARER={0}",
    "GDAL_HTTP_HEADERS=Authorization: Bearer {0}",
    "AWS_SECRET_ACCESS_KEY={0}",
    "EXTRA_QUERY_PARAMETERS=token={0}&layer=3",
    "MYSQL:land,user=me,password={0},tables=houses",
    "PG:dbname=land password='{0} x' table=houses",
    "me:{0}@h.example/scene.tif",
    "WMS:https://h.example/wms?SERVICE=WMS&apikey={0}&LAYERS=x",
]
WITHOUT = [
    "/data/a@b.tif", r"C:\data\a@b.tif", "D:/x:y@z.tif", "/data/x:y@z.tif", "NETCDF:a@b.nc:band", "/data/scene.tif",
    "GPKG:/data/a.gpkg:table", "NUM_THREADS=2", "<VRTDataset rasterXSize=\"3\"><SRS>EPSG:4326</SRS></VRTDataset>",
]  # fmt: skip


@pytest.mark.parametrize("form", WITH_LOGIN)
def test_a_login_is_not_shown_and_a_renewed_one_changes_nothing(form):
    old, new = form.format(OLD), form.format(NEW)
    assert OLD not in shown(old)
    assert shown(old) == shown(new) == shown(shown(old))
    assert OLD not in without_credentials(old)
    assert without_credentials(old) == without_credentials(new)
    hidden, logins = hide({"path": old})
    assert OLD not in repr(hidden)
    assert fill(hidden, hide({"path": new})[1]) == {"path": new}
    assert logins == [old]
    assert OLD not in hushed(f"{old}: cannot be opened", old)


def test_what_tells_sources_apart_stays_in_their_names():
    for one, other in (("layer=3", "layer=4"), ("map=1", "map=2"), ("SizeX>3", "SizeX>4"), ("h.example", "g.example")):
        assert without_credentials(TILES.format(OLD)) != without_credentials(TILES.format(OLD).replace(one, other))
    tables = [f"MYSQL:land,user=me,password={OLD},tables={one}" for one in ("houses", "trees")]
    assert len({without_credentials(one) for one in tables}) == 2


@pytest.mark.parametrize("path", WITHOUT)
def test_what_holds_no_login_stays_as_it_is(path):
    assert shown(path) == without_credentials(path) == path
    assert hide({"path": path}) == ({"path": path}, [])


def test_open_options_count_as_addresses():
    members = {"inputs": [{"path": f"https://h/a.tif?sig={OLD}", "open_options": (f"USERPWD=me:{OLD}", "LEVEL=3")}]}
    assert with_paths(members, without_credentials) == {
        "inputs": [{"path": "https://h/a.tif", "open_options": ["USERPWD=…", "LEVEL=3"]}]
    }
