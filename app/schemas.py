"""What clients send and receive.

The models are not used for it: they would accept nested artists where an id is meant, and let a
client set what the application keeps by itself.

A change is a `TypedDict`, because it tells an absent key from null, and absent is the only way to
leave a column as it is.
"""

from typing import Annotated

from pydantic import AliasPath, BaseModel, ConfigDict, Field, StringConstraints
from typing_extensions import TypedDict  # pydantic asks for this one on Python 3.11

Id = Annotated[int, Field(ge=1, le=2**63 - 1)]  # SQLite has no larger integers
Title = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
Year = Annotated[int, Field(ge=1860, le=2999)]  # nobody recorded sound before 1860
Position = Annotated[int, Field(ge=1, le=999)]
Seconds = Annotated[int, Field(ge=1, le=86_400)]

_strict = ConfigDict(extra="forbid")


class NewArtist(BaseModel):
    """An artist to be created."""

    model_config = _strict

    name: Title


class ArtistChange(TypedDict, total=False):
    """What is to be different about an artist."""

    __pydantic_config__ = _strict  # type: ignore[misc]  # pydantic's way to configure a TypedDict

    name: Title


class NewAlbum(BaseModel):
    """An album to be created."""

    model_config = _strict

    artist: Id = Field(alias="artist_id")
    title: Title
    year: Year | None = None


class AlbumChange(TypedDict, total=False):
    """What is to be different about an album; a null year means that it is not known."""

    __pydantic_config__ = _strict  # type: ignore[misc]  # pydantic's way to configure a TypedDict

    artist: Annotated[Id, Field(alias="artist_id")]
    title: Title
    year: Year | None


class NewTrack(BaseModel):
    """A track to be created."""

    model_config = _strict

    album: Id = Field(alias="album_id")
    position: Position
    title: Title
    duration_seconds: Seconds


class TrackChange(TypedDict, total=False):
    """What is to be different about a track, which stays on its album."""

    __pydantic_config__ = _strict  # type: ignore[misc]  # pydantic's way to configure a TypedDict

    position: Position
    title: Title
    duration_seconds: Seconds


class ArtistRead(BaseModel):
    """An artist, as it is listed."""

    id: int
    name: str


class AlbumRead(BaseModel):
    """An album, as it is listed."""

    id: int
    artist_id: int = Field(validation_alias=AliasPath("artist", "id"))
    title: str
    year: int | None
    total_seconds: int


class TrackRead(BaseModel):
    """A track, as it is listed."""

    id: int
    album_id: int = Field(validation_alias=AliasPath("album", "id"))
    position: int
    title: str
    duration_seconds: int


class ArtistDetail(ArtistRead):
    """An artist with all albums, in the order of their years."""

    albums: list[AlbumRead]


class AlbumDetail(AlbumRead):
    """An album with its artist and all tracks, in the order of their positions."""

    artist: ArtistRead
    tracks: list[TrackRead]
