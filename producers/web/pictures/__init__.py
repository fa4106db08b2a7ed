"""What people see of an image: a JPEG that we make ourselves, at an address that works for one person and a while.

`addresses` signs the addresses, `routes` answers them. `fetching` gets the bytes through the worker's own store and
checks that they are the content that was judged, `places` says where else it lies. `drawing` decodes behind the
worker's guards and makes the JPEGs, `reasons` draws why there is none. The original bytes never leave this process.
"""

from producers.web.pictures.addresses import Kind, address
from producers.web.pictures.fetching import Pictures
from producers.web.pictures.routes import router

__all__ = ["Kind", "Pictures", "address", "router"]
