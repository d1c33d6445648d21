"""What tests use: a transport in memory, servers in threads, test cases, a fixture.

Nothing is imported here: the transport and the plain server need no Django.
"""

from __future__ import annotations
