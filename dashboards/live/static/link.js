// The live link: one WebSocket that is watched and, when it is lost or falls silent, made anew.

const SILENT_MS = 7_000; // the server says something every 2 s
const LONGEST_RETRY_MS = 5_000;

export class Link {
  /**
   * @param {(message: object) => void} onMessage what the server says
   * @param {(state: "live" | "connecting" | "lost", sinceMs: number) => void} onState
   * @param {() => Promise<boolean>} mayConnect whether to try again: false shows that somebody must sign in
   */
  constructor(onMessage, onState, mayConnect) {
    this.onMessage = onMessage;
    this.onState = onState;
    this.mayConnect = mayConnect;
    this.look = { look: "fleet", key: "" };
    this.attempt = 0;
    this.heardMs = Date.now();
    this.socket = null;
    this.timer = null;
    setInterval(() => this.watch(), 1_000);
    addEventListener("online", () => this.now());
    document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && this.watch());
  }

  async connect() {
    clearTimeout(this.timer);
    this.timer = null;
    if (!(await this.mayConnect())) return;
    const socket = new WebSocket(new URL("live", location.href.replace(/^http/, "ws")));
    this.socket = socket;
    this.openedMs = Date.now();
    socket.onopen = () => this.tell();
    socket.onmessage = (event) => {
      if (socket !== this.socket) return;
      this.attempt = 0;
      this.heardMs = Date.now();
      this.onState("live", this.heardMs);
      this.onMessage(JSON.parse(event.data));
    };
    socket.onclose = () => socket === this.socket && this.lost();
  }

  /** Tell the server what is looked at. */
  lookAt(look) {
    this.look = look;
    this.tell();
  }

  tell() {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(this.look));
  }

  lost() {
    this.socket = null;
    this.onState("lost", this.heardMs);
    const wait = Math.min(LONGEST_RETRY_MS, 400 * 2 ** this.attempt++) * (0.6 + 0.4 * Math.random());
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.connect(), wait);
  }

  /** Try at once instead of waiting. */
  now() {
    if (this.socket === null && this.timer !== null) this.connect();
  }

  /** A link over which nothing comes is lost, whatever it says of itself; so it is after a sleep. */
  watch() {
    if (this.socket === null) {
      if (this.timer !== null) this.onState("lost", this.heardMs);
      return;
    }
    if (Date.now() - Math.max(this.heardMs, this.openedMs) > SILENT_MS) {
      const dead = this.socket;
      this.socket = null;
      dead.onclose = null;
      dead.close();
      this.lost();
    }
  }
}
