// Keeps one room's messages complete. Every change carries the room's next version, so
// a version at or below the last one is a repetition, and one that skips shows a loss.

const GAP_MS = 300;

export class Sync {
  constructor({ version, apply, resume, reset }) {
    this.version = version;
    this.apply = apply;
    this.resume = resume;
    this.reset = reset;
    this.early = new Map();
  }

  // A live change.
  change(message) {
    if (message.version <= this.version) return;
    this.early.set(message.version, message);
    this.drain();
    // Events of two senders may overtake each other: wait a moment before asking.
    if (this.early.size) this.askSoon(GAP_MS);
  }

  // The room's version as the server tells it with "welcome" and "pong". After a
  // connection it is asked at once; a pong may only be ahead of an event on its way.
  remote(version, { now }) {
    if (version > this.version) this.askSoon(now ? 0 : GAP_MS);
    // Lower: the server's data was set back.
    if (version < this.version && now) this.resume(this.version);
  }

  // The answer to resume.
  changes({ messages, version, reset }) {
    if (reset) return this.reset();
    messages.filter((message) => message.version > this.version).forEach((message) => this.apply(message));
    this.version = Math.max(this.version, version);
    this.drain();
  }

  drain() {
    for (const version of [...this.early.keys()].sort((a, b) => a - b)) {
      if (version > this.version + 1) break;
      const message = this.early.get(version);
      this.early.delete(version);
      if (version <= this.version) continue;
      this.version = version;
      this.apply(message);
    }
  }

  askSoon(delay) {
    if (delay === 0) return this.resume(this.version);
    clearTimeout(this.timer);
    const seen = this.version;
    this.timer = setTimeout(() => {
      if (this.early.size || this.version === seen) this.resume(this.version);
    }, delay);
  }
}
