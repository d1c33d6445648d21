// The connection state at the top of the page: the worst of the page's sockets.

const ORDER = ["connected", "connecting", "reconnecting", "offline", "ended"];
const LABELS = {
  connected: "Connected",
  connecting: "Connecting…",
  reconnecting: "Reconnecting…",
  offline: "Offline",
  ended: "Disconnected",
};
const REASONS = {
  "signed-out": "Signed out. Reload to go on.",
  "access-lost": "You are no longer in this room.",
};
const sockets = [];

export function watch(socket) {
  sockets.push(socket);
  socket.addEventListener("state", show);
  show();
}

function show() {
  const pill = document.getElementById("connection");
  const worst = sockets.reduce((a, b) => (ORDER.indexOf(b.state) > ORDER.indexOf(a.state) ? b : a));
  if (pill.dataset.state === worst.state) return;
  pill.hidden = false;
  pill.dataset.state = worst.state;
  pill.querySelector(".label").textContent = REASONS[worst.reason] ?? LABELS[worst.state];
}
