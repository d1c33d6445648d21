"""What the chat can do, as typed functions that know no request and no socket.

Views, consumers, the admin and commands all call these; each checks its own
permission, so no way in can forget it.
"""
