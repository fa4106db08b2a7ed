"""What people see of an image: a JPEG that we make ourselves, at an address that works for one person for a while.

`addresses` signs the addresses, and `routes` answers them. `fetching` gets the bytes through the worker's store and
checks that they are the content that was judged. `places` says where else the content is. `drawing` decodes with the
worker's guards and makes the JPEGs. `reasons` draws why there is no picture. The original bytes never leave this
process.
"""

from producers.web.pictures.addresses import Kind, address
from producers.web.pictures.fetching import Pictures
from producers.web.pictures.routes import router

__all__ = ["Kind", "Pictures", "address", "router"]
