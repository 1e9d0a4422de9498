// A page with useChat, without the page: the package's own chat and transport, told what to do on stdin, one
// JSON per line. Every change of its messages or status is a line on stdout.
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const [folder, api, id, messages] = process.argv.slice(2);
const ai = await import(pathToFileURL(`${folder}/node_modules/ai/dist/index.mjs`).href);
const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);

class State {
  constructor(initial) {
    this.list = initial;
    this.state = "ready";
    this.problem = undefined;
  }
  get status() { return this.state; }
  set status(value) { this.state = value; this.tell(); }
  get error() { return this.problem; }
  set error(value) { this.problem = value; this.tell(); }
  get messages() { return this.list; }
  set messages(value) { this.list = value; this.tell(); }
  pushMessage = (message) => { this.list = [...this.list, message]; this.tell(); };
  popMessage = () => { this.list = this.list.slice(0, -1); this.tell(); };
  replaceMessage = (index, message) => {
    this.list = this.list.map((one, at) => (at === index ? structuredClone(message) : one));
    this.tell();
  };
  snapshot = (value) => structuredClone(value);
  tell = () => say({ status: this.state, error: this.problem && String(this.problem), messages: this.list });
}

class Chat extends ai.AbstractChat {}

const data = [];
const chat = new Chat({
  id,
  state: new State(JSON.parse(messages || "[]")),
  transport: new ai.DefaultChatTransport({ api }),
  sendAutomaticallyWhen: ai.lastAssistantMessageIsCompleteWithApprovalResponses,
  onData: (part) => data.push(part),
});
const deeds = {
  send: ({ text, messageId }) => chat.sendMessage({ text, messageId }),
  regenerate: ({ messageId }) => chat.regenerate({ messageId }),
  resume: () => chat.resumeStream(),
  approve: ({ approval, approved, reason }) => chat.addToolApprovalResponse({ id: approval, approved, reason }),
  leave: () => chat.stop(),
};
say({ ready: true });
for await (const line of createInterface({ input: process.stdin })) {
  const deed = JSON.parse(line);
  Promise.resolve(deeds[deed.do](deed)).then(
    () => say({ done: deed.do, status: chat.status, messages: chat.messages, data }),
    (error) => say({ done: deed.do, failed: String(error) }),
  );
}
