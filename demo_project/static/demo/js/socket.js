// A WebSocket that comes back. It reports a state, pings the server, and gives up only
// when the server said that it must (session ended, access lost).

const PING_MS = 20000;
const ANSWER_MS = 8000;
const MIN_DELAY_MS = 500;
const MAX_DELAY_MS = 15000;
const ENDINGS = { 4401: "signed-out", 4403: "access-lost" };

// A probe that asks for a page which only those who are signed in get: others are sent
// to the sign-in, and then there is nothing to connect to.
export function whetherSignedIn(path) {
  return async () => {
    const answer = await fetch(path, { method: "HEAD", redirect: "manual" });
    return answer.type === "opaqueredirect" ? "signed-out" : null;
  };
}

export class Socket extends EventTarget {
  // probe() is asked after a refused handshake, of which a browser tells no reason:
  // it returns why to give up, or null to go on trying.
  constructor(path, { probe = async () => null } = {}) {
    super();
    this.path = path;
    this.probe = probe;
    this.state = "connecting";
    this.failures = 0;
    this.socket = null;
    addEventListener("online", () => this.reconnectNow());
    addEventListener("offline", () => this.drop("offline"));
    // A page that was put to sleep finds out at once whether its socket still lives.
    document.addEventListener("visibilitychange", () => { if (!document.hidden) this.wake(); });
    addEventListener("pageshow", (event) => { if (event.persisted) this.reconnectNow(); });
  }

  open() {
    clearTimeout(this.retryTimer);
    if (!navigator.onLine) return this.setState("offline");
    this.setState(this.failures || this.wasOpen ? "reconnecting" : "connecting");
    const scheme = location.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(`${scheme}//${location.host}${this.path}`);
    this.socket = socket;
    this.isOpen = false;
    socket.onopen = () => {
      this.isOpen = true;
      this.wasOpen = true;
      this.schedulePing();
    };
    socket.onmessage = (event) => this.receive(JSON.parse(event.data));
    socket.onclose = (event) => { if (socket === this.socket) this.closed(event.code); };
  }

  send(type, fields = {}) {
    if (this.socket?.readyState !== WebSocket.OPEN) return false;
    this.socket.send(JSON.stringify({ type, ...fields }));
    return true;
  }

  receive(frame) {
    clearTimeout(this.answerTimer);
    if (frame.type === "welcome") {
      this.failures = 0;
      this.setState("connected");
    }
    if (frame.type === "pong") this.roundTrip = performance.now() - this.pingedAt;
    this.dispatchEvent(new CustomEvent("frame", { detail: frame }));
  }

  ping() {
    if (!this.send("ping")) return;
    this.pingedAt = performance.now();
    clearTimeout(this.answerTimer);
    this.answerTimer = setTimeout(() => this.drop("reconnecting"), ANSWER_MS);
    this.schedulePing();
  }

  schedulePing() {
    clearTimeout(this.pingTimer);
    this.pingTimer = setTimeout(() => this.ping(), PING_MS);
  }

  wake() {
    if (this.state === "connected") this.ping();
    else this.reconnectNow();
  }

  reconnectNow() {
    if (this.state === "ended" || this.socket?.readyState === WebSocket.OPEN
        || this.socket?.readyState === WebSocket.CONNECTING) return;
    this.open();
  }

  // The socket may be dead without knowing: let go of it, do not wait for its close.
  drop(state) {
    if (this.state === "ended") return;
    const socket = this.socket;
    this.socket = null;
    socket?.close();
    this.stopTimers();
    this.setState(state);
    if (state !== "offline") this.retry();
  }

  async closed(code) {
    this.stopTimers();
    this.socket = null;
    if (ENDINGS[code]) return this.end(ENDINGS[code]);
    this.setState(navigator.onLine ? "reconnecting" : "offline");
    if (!this.isOpen) {
      const reason = await this.probe().catch(() => null);
      if (reason) return this.end(reason);
    }
    this.retry();
  }

  retry() {
    const ceiling = Math.min(MAX_DELAY_MS, MIN_DELAY_MS * 2 ** this.failures);
    this.failures += 1;
    // Half fixed, half chance: a restarted server does not meet all clients at once.
    const delay = ceiling / 2 + Math.random() * ceiling / 2;
    clearTimeout(this.retryTimer);
    this.retryTimer = setTimeout(() => this.open(), delay);
  }

  end(reason) {
    this.reason = reason;
    this.setState("ended");
  }

  stopTimers() {
    clearTimeout(this.pingTimer);
    clearTimeout(this.answerTimer);
    clearTimeout(this.retryTimer);
  }

  setState(state) {
    this.state = state;
    this.dispatchEvent(new CustomEvent("state", { detail: state }));
  }
}
