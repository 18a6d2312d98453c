// MQTT.js, in one protocol version and over one transport.
import fs from "node:fs";
import { createHash } from "node:crypto";
import mqtt from "mqtt";
import { call, event, params, pause, Queue, report } from "./lib.mjs";

const v5 = params.version === 5;
const base = {
  protocolVersion: params.version, ca: fs.readFileSync(params.ca), reconnectPeriod: 0, connectTimeout: 20_000, clean: true,
};
const url = params.transport === "wss" ? `wss://localhost:${params.port}/mqtt` : `mqtts://localhost:${params.port}`;

// client makes a client with a queue of what it receives.
function client(account, options = {}) {
  const { properties, ...rest } = options;
  const all = { ...base, ...account, ...rest };
  if (all.clientId === null) all.clientId = "";
  else if (all.clientId === "") delete all.clientId; // the library makes one
  if (v5 && properties) all.properties = properties;
  const c = mqtt.connect(url, all);
  c.inbox = new Queue();
  c.on("message", (topic, payload, packet) => c.inbox.push({ topic, payload, packet }));
  c.on("error", () => {});
  return c;
}

async function connected(account, options) {
  const c = client(account, options);
  const failed = new Promise((_, no) => c.once("error", no));
  const [connack] = await Promise.race([event(c, "connect"), failed]);
  c.connack = connack;
  return c;
}

const sub = (c, topic, options = { qos: 2 }) => call(`subscribe ${topic}`, (cb) => c.subscribe(topic, options, cb));
const pub = (c, topic, payload, options = { qos: 1 }) => call(`publish ${topic}`, (cb) => c.publish(topic, payload, options, cb));
const end = (c, options) => call("end", (cb) => c.end(false, options ?? {}, cb));
const brief = ({ topic, payload, packet }) => [topic, payload.toString(), packet.qos, packet.retain];

const tests = {
  async qos() {
    const [a, b] = [await connected(params.alice), await connected(params.bob)];
    await sub(a, "to/alice/#");
    await sub(b, "to/bob/#");
    const got = [];
    for (const qos of [0, 1, 2]) {
      await pub(a, "to/bob/x", `a${qos}`, { qos });
      got.push(brief(await b.inbox.next()));
      await pub(b, "to/alice/x", `b${qos}`, { qos });
      got.push(brief(await a.inbox.next()));
    }
    report("qos", got);
    await call("unsubscribe", (cb) => b.unsubscribe("to/bob/#", cb));
    await sub(b, "to/bob/last");
    await pub(a, "to/bob/x", "not any more");
    await pub(a, "to/bob/last", "last");
    report("unsubscribed", brief(await b.inbox.next()));
    await Promise.all([end(a), end(b)]);
  },

  async large() {
    const [a, b] = [await connected(params.alice), await connected(params.bob)];
    await sub(b, "large");
    const body = Buffer.alloc(300_000, 1).map((_, i) => i * 7 + (i >> 8));
    await pub(a, "large", body, { qos: 2 });
    await pub(a, "large", Buffer.alloc(0), { qos: 2 });
    const digest = (x) => createHash("sha256").update(x).digest("hex");
    report("large", digest((await b.inbox.next()).payload) === digest(body));
    report("empty", (await b.inbox.next()).payload.length);
    await Promise.all([end(a), end(b)]);
  },

  async retained() {
    const a = await connected(params.alice);
    await pub(a, "kept/one", "1", { qos: 1, retain: true });
    await pub(a, "kept/two", "2", { qos: 2, retain: true });
    await pub(a, "kept/two", "", { qos: 1, retain: true });
    await sub(a, "kept/one");
    await pub(a, "kept/one", "live", { qos: 0 });
    const got = [brief(await a.inbox.next()), brief(await a.inbox.next())];
    await sub(a, "kept/two");
    await pub(a, "kept/two", "live", { qos: 0 });
    got.push(brief(await a.inbox.next()));
    report("retained", got);
    await end(a);
  },

  async will() {
    const watch = await connected(params.alice);
    await sub(watch, "will/#");
    const will = (name, more) => ({ will: { topic: `will/${name}`, payload: "gone", qos: 1, retain: false, ...more } });
    await end(await connected(params.bob, will("polite")));
    const cut = await connected(params.bob, will("cut"));
    cut.stream.destroy();
    report("will", brief(await watch.inbox.next()));
    if (v5) {
      const late = await connected(params.bob, { ...will("late", { properties: { willDelayInterval: 1, contentType: "text/plain", responseTopic: "r", userProperties: { a: "b" } } }), properties: { sessionExpiryInterval: 60 } });
      const at = Date.now();
      late.stream.destroy();
      const got = await watch.inbox.next();
      report("delayed will", [...brief(got), Date.now() - at >= 900, got.packet.properties]);
      const said = await connected(params.bob, will("said"));
      await end(said, { reasonCode: 4 });
      report("will asked for", brief(await watch.inbox.next()));
    }
    await end(watch);
  },

  async session() {
    const keep = { clientId: "keeper", clean: false, properties: { sessionExpiryInterval: 600 } };
    const a = await connected(params.alice);
    const first = await connected(params.bob, keep);
    await sub(first, "session/#");
    const present = [first.connack.sessionPresent];
    first.stream.destroy();
    await event(first, "close");
    for (let i = 0; i < 6; i++) await pub(a, "session/x", String(i), { qos: 1 + (i % 2) });
    const second = client(params.bob, keep);
    const [connack] = await event(second, "connect");
    present.push(connack.sessionPresent);
    // The order is kept within a quality of service: QoS 2 takes a further step.
    const kept = await second.inbox.take(6);
    report("kept", [1, 2].map((qos) => kept.filter((m) => m.packet.qos === qos).map((m) => m.payload.toString())));
    await end(second);
    await pub(a, "session/x", "thrown away");
    const third = await connected(params.bob, { ...keep, clean: true });
    present.push(third.connack.sessionPresent);
    await sub(third, "session/#");
    await pub(a, "session/x", "new");
    report("after a clean start", brief(await third.inbox.next()));
    report("session present", present);
    await Promise.all([end(a), end(third)]);
  },

  async takeover() {
    const one = await connected(params.bob, { clientId: "same" });
    const told = new Promise((yes) => one.once("disconnect", (p) => yes(p.reasonCode)));
    const closed = event(one, "close");
    const two = await connected(params.bob, { clientId: "same" });
    await closed;
    report("takeover", v5 ? await told : null);
    await end(two);
  },

  async shared() {
    const [a, b, c] = [await connected(params.alice), await connected(params.bob), await connected(params.bob)];
    for (const m of [b, c]) {
      await sub(m, "$share/group/shared/+", { qos: 1 });
      await sub(m, "shared-done", { qos: 1 });
    }
    for (let i = 0; i < 30; i++) await pub(a, "shared/x", String(i));
    await pub(a, "shared-done", "");
    const done = (m) => m.topic === "shared-done";
    const parts = [await b.inbox.until(done), await c.inbox.until(done)];
    const all = parts.flat().map((m) => Number(m.payload)).sort((x, y) => x - y);
    report("shared", [all, parts.every((p) => p.length > 0)]);
    await Promise.all([end(a), end(b), end(c)]);
  },

  async refused() {
    const got = {};
    for (const [name, account] of Object.entries(params.refused)) {
      const c = client(account);
      const closed = event(c, "close");
      const [error] = await event(c, "error");
      await closed; // by the server: an answer that is not followed by this leaves a client waiting
      got[name] = error.code;
      c.end(true);
    }
    report("refused", got);
  },

  async iot() {
    const [app, device] = [await connected(params.app), await connected(params.device, { clientId: params.device.clientId })];
    await sub(app, "iot-2/type/+/id/+/evt/+/fmt/+");
    await sub(device, "iot-2/cmd/+/fmt/+");
    await pub(device, "iot-2/evt/status/fmt/json", '{"d":{"t":1}}', { qos: 1 });
    await pub(app, "iot-2/type/sensor/id/one/cmd/blink/fmt/json", "3", { qos: 2 });
    report("iot", [brief(await app.inbox.next()), brief(await device.inbox.next())]);
    await Promise.all([end(app), end(device)]);
    // After that, for one connection of a device takes the place of another.
    const again = await connected(params.device);
    const codes = {};
    for (const topic of ["#", "iot-2/type/+/id/+/evt/+/fmt/+", "iot-2/cmd/+/fmt/+"]) {
      // A refused filter is an error in some versions of the library and a code in others.
      codes[topic] = await new Promise((yes) => again.subscribe(topic, { qos: 1 }, (err, granted, packet) => yes((packet?.granted ?? [err.code])[0])));
    }
    report("subscriptions of a device", codes);
    await end(again);
  },
};

const tests5 = {
  async properties() {
    const [a, b] = [await connected(params.alice), await connected(params.bob)];
    await sub(b, "props/#", { qos: 1, properties: { subscriptionIdentifier: 42 } });
    await pub(a, "props/x", "é", {
      qos: 1,
      properties: {
        payloadFormatIndicator: true, messageExpiryInterval: 1000, contentType: "text/plain", responseTopic: "answers/a",
        correlationData: Buffer.from([0, 255, 7]), userProperties: { colour: ["red", "blue"], size: "9" },
      },
    });
    const { messageExpiryInterval: left, correlationData, ...rest } = (await b.inbox.next()).packet.properties;
    report("properties", { ...rest, correlationData: [...correlationData] });
    report("expiry counts down", left > 900 && left <= 1000);
    await Promise.all([end(a), end(b)]);
  },

  async subscriptions() {
    const a = await connected(params.alice);
    await sub(a, "subs/#", { qos: 1, properties: { subscriptionIdentifier: 1 } });
    await sub(a, "subs/+", { qos: 0, properties: { subscriptionIdentifier: 2 } });
    await sub(a, "echo", { qos: 1, nl: true });
    await pub(a, "subs/x", "1");
    await pub(a, "echo", "not to me");
    await pub(a, "subs/y", "2");
    // One copy with both identifiers, or one for each: both are allowed.
    const ids = new Map();
    for (let n = 0; n < 4;) {
      const { topic, packet } = await a.inbox.next();
      const found = [packet.properties.subscriptionIdentifier].flat();
      ids.set(topic, [...(ids.get(topic) ?? []), ...found].sort());
      n += found.length;
    }
    report("subscription identifiers", Object.fromEntries(ids));

    await pub(a, "rh", "kept", { qos: 1, retain: true });
    await sub(a, "rh", { qos: 1, rh: 2 }); // not on subscribing
    await pub(a, "rh", "first");
    report("retain handling 2", brief(await a.inbox.next()));
    await sub(a, "rh", { qos: 1, rh: 1, rap: true }); // only for a new subscription
    await pub(a, "rh", "second", { qos: 1, retain: true });
    report("retain as published", brief(await a.inbox.next()));
    await end(a);
  },

  async alias() {
    const out = await connected(params.alice, { autoAssignTopicAlias: true });
    const inn = await connected(params.bob, { properties: { topicAliasMaximum: 10 } });
    report("aliases offered", out.connack.properties.topicAliasMaximum > 0);
    await sub(inn, "alias/+");
    const seen = [];
    inn.on("packetreceive", (p) => p.cmd === "publish" && seen.push(p.properties?.topicAlias ?? null));
    let bare = 0;
    out.on("packetsend", (p) => { if (p.cmd === "publish" && p.topic === "") bare++; });
    for (let i = 0; i < 4; i++) await pub(out, "alias/one", String(i));
    await pub(out, "alias/two", "x");
    await pub(out, "alias/one", "4");
    report("aliased", (await inn.inbox.take(6)).map((m) => [m.topic, m.payload.toString()]));
    report("sent without a topic", bare);
    report("received with an alias", seen.filter((x) => x !== null).length > 0);
    await Promise.all([end(out), end(inn)]);
  },

  async expiry() {
    const keep = { clientId: "sleeper", clean: false, properties: { sessionExpiryInterval: 600 } };
    const a = await connected(params.alice);
    const first = await connected(params.bob, keep);
    await sub(first, "expiry/#", { qos: 1 });
    await end(first);
    await pub(a, "expiry/x", "short", { qos: 1, properties: { messageExpiryInterval: 1 } });
    await pub(a, "expiry/x", "long", { qos: 1, properties: { messageExpiryInterval: 1000 } });
    await pause(2100);
    const second = client(params.bob, keep);
    const { payload, packet } = await second.inbox.next();
    report("expiry", [payload.toString(), packet.properties.messageExpiryInterval < 1000]);
    await end(second);
    await end(a);

    const brief = { clientId: "forgotten", clean: false, properties: { sessionExpiryInterval: 1 } };
    await end(await connected(params.bob, brief));
    await pause(2100);
    const again = await connected(params.bob, brief);
    report("expired session", again.connack.sessionPresent);
    await end(again);
  },

  async request() {
    const asker = await connected(params.alice, { properties: { requestResponseInformation: true } });
    const answerer = await connected(params.bob);
    const to = asker.connack.properties.responseInformation + "x";
    await sub(asker, to);
    await sub(answerer, "service");
    await pub(asker, "service", "2+2", { qos: 1, properties: { responseTopic: to, correlationData: Buffer.from("77") } });
    const { packet } = await answerer.inbox.next();
    await pub(answerer, packet.properties.responseTopic, "4", { qos: 1, properties: { correlationData: packet.properties.correlationData } });
    const answer = await asker.inbox.next();
    report("request", [answer.payload.toString(), answer.packet.properties.correlationData.toString()]);
    await Promise.all([end(asker), end(answerer)]);
  },

  async assigned() {
    const c = await connected({ username: params.alice.username, password: params.alice.password, clientId: null });
    report("assigned client id", typeof c.connack.properties.assignedClientIdentifier === "string");
    await end(c);
  },
};

const all = v5 ? { ...tests, ...tests5 } : tests;
await Promise.all(Object.entries(all).map(async ([name, test]) => {
  try {
    await test();
  } catch (error) {
    report(`failed: ${name}`, String(error?.stack ?? error));
  }
}));
process.exit(0);
