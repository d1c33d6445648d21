// Messages on their way. Each keeps its nonce until the server has it, over lost
// connections and a reload of the page; the server knows a nonce that it has seen.

const RATE_MS = 3000;
const SENDING = "Sending…";
const WAITING = "Waiting for a connection…";

export class Outbox {
  constructor({ key, socket, timeline }) {
    this.key = key;
    this.socket = socket;
    this.timeline = timeline;
    this.waiting = new Map();
    for (const message of stored(key)) {
      this.waiting.set(message.nonce, message);
      timeline.addPending(message);
    }
  }

  add(text, files) {
    const message = {
      nonce: randomUUID(),
      text,
      attachments: files.map(({ id }) => id),
      names: files.map(({ name }) => name),
    };
    this.waiting.set(message.nonce, message);
    this.store();
    this.timeline.addPending(message);
    this.send(message);
  }

  // Everything that the server has not confirmed, in order.
  flush() {
    for (const message of this.waiting.values()) this.send(message);
  }

  send({ nonce, text, attachments, refused }) {
    if (refused) return;
    const sent = this.socket.send("send", { nonce, text, attachments });
    this.timeline.markPending(nonce, sent ? SENDING : WAITING, false);
  }

  // The connection is lost, and with it perhaps what was on its way.
  wait() {
    for (const { nonce, refused } of this.waiting.values()) {
      if (!refused) this.timeline.markPending(nonce, WAITING, false);
    }
  }

  confirm(nonce) {
    if (!this.waiting.delete(nonce)) return;
    this.timeline.markPending(nonce, "Sent", false);
    this.store();
  }

  refuse({ nonce, code, detail }) {
    const message = this.waiting.get(nonce);
    if (!message) return false;
    if (code === "rate") {
      this.timeline.markPending(nonce, "Waiting a moment…", false);
      setTimeout(() => this.send(message), RATE_MS);
      return true;
    }
    message.refused = true;
    const item = this.timeline.markPending(nonce, `Not sent: ${detail} `, true);
    item?.querySelector(".message-main").append(this.discardButton(nonce, item));
    this.store();
    return true;
  }

  discardButton(nonce, item) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "tool";
    button.textContent = "Discard";
    button.addEventListener("click", () => {
      this.waiting.delete(nonce);
      this.store();
      item.remove();
    });
    return button;
  }

  store() {
    const kept = [...this.waiting.values()].filter(({ refused }) => !refused);
    sessionStorage.setItem(this.key, JSON.stringify(kept));
  }
}

function stored(key) {
  try {
    return JSON.parse(sessionStorage.getItem(key)) ?? [];
  } catch {
    return [];
  }
}

// A version 4 UUID (RFC 9562); crypto.randomUUID needs HTTPS or localhost.
function randomUUID() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const digits = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return digits.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}
