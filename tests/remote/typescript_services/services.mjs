// Services written with the Restate SDK for TypeScript. Run by node 22 or newer: node services.mjs PORT
import { appendFileSync } from "node:fs";
import * as restate from "@restatedev/restate-sdk";

const all = (restate.RestatePromise ?? restate.CombineablePromise);

const svc = restate.service({
  name: "TsSvc",
  handlers: {
    greet: async (ctx, name) => {
      const first = await ctx.run("one", async () => name);
      const second = await ctx.run("two", async () => first + "!");
      await ctx.sleep(5);
      return second;
    },
    parallel: async (ctx, count) => {
      const steps = [];
      for (let i = 0; i < count; i++) {
        steps.push(ctx.run("p" + i, async () => { await new Promise((r) => setTimeout(r, 10)); return i; }));
      }
      return await all.all(steps);
    },
    steps: async (ctx, count) => {
      for (let i = 0; i < count; i++) {
        await ctx.run("step " + i, async () => {
          appendFileSync(process.env.RS_LEDGER, `step ${i}\n`);
          await new Promise((r) => setTimeout(r, 200));
          return i;
        });
      }
      return count;
    },
    caller: async (ctx, name) => {
      const greeting = await ctx.serviceClient({ name: "TsSvc" }).greet(name);
      const count = await ctx.objectClient({ name: "TsObj" }, "called").add(5);
      ctx.objectSendClient({ name: "TsObj" }, "called").add(2);
      return [greeting, count];
    },
    waiter: async (ctx) => {
      const { id, promise } = ctx.awakeable();
      await ctx.objectClient({ name: "TsObj" }, "awakeable").remember(id);
      return await promise;
    },
    fails: async () => { throw new restate.TerminalError("no way", { errorCode: 418 }); },
    race: async (ctx) => await all.race([ctx.sleep(60000), ctx.run("fast", async () => "fast")]),
  },
});

const obj = restate.object({
  name: "TsObj",
  handlers: {
    add: async (ctx, n) => {
      const value = ((await ctx.get("n")) ?? 0) + n;
      ctx.set("n", value);
      return value;
    },
    remember: async (ctx, id) => { ctx.set("id", id); },
    recall: restate.handlers.object.shared(async (ctx) => {
      const out = {};
      for (const name of await ctx.stateKeys()) out[name] = await ctx.get(name);
      return out;
    }),
  },
});

const wf = restate.workflow({
  name: "TsWf",
  handlers: {
    run: async (ctx, start) => start + (await ctx.promise("end")),
    finish: async (ctx, end) => { await ctx.promise("end").resolve(end); },
  },
});

restate.serve({ services: [svc, obj, wf], port: Number(process.argv[2]) });
