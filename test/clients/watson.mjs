// The two SDKs of the Watson IoT Platform, by name in params.sdk. What differs
// between them is in makers; the tests are the same.
import { createRequire } from "node:module";
import { call, event, params, pause, Queue, report, within } from "./lib.mjs";

const require = createRequire(import.meta.url);
const org = params.org;
const domain = "localhost";

// wiotp makes clients of @wiotp/sdk.
function wiotp() {
  const sdk = require("@wiotp/sdk");
  const GatewayConfig = require("@wiotp/sdk/dist/gateway").GatewayConfig;
  const options = (mqtt) => ({ domain, logLevel: "silent", mqtt: { port: params.transport === "websockets" ? 8883 : params.port, transport: params.transport, ...mqtt } });
  const split = (account) => account.clientId.split(":");
  const named = (Config, account) => {
    const [, orgId, typeId, deviceId] = split(account);
    return new Config({ orgId, typeId, deviceId }, { token: account.password }, options());
  };
  return {
    device: (a) => new sdk.DeviceClient(named(sdk.DeviceConfig, a)),
    gateway: (a) => new sdk.GatewayClient(named(GatewayConfig, a)),
    application: (a, { shared = false } = {}) => new sdk.ApplicationClient(new sdk.ApplicationConfig(
      { appId: split(a)[2] }, { key: a.username, token: a.password }, options({ sharedSubscription: shared }))),
    send: (c, ...args) => call("publishEvent", (cb) => c.publishEvent(...args, cb)),
    sendFor: (c, ...args) => call("publishEvent", (cb) => c._publishEvent(...args, cb)),
    listen: (c, type, id) => c._subscribe(`iot-2/type/${type}/id/${id}/cmd/+/fmt/+`, 1),
    events: (c, qos) => c.subscribeToEvents("+", "+", "+", "+", qos),
    command: (c, ...args) => call("publishCommand", (cb) => c.publishCommand(...args, cb)),
  };
}

// ibmiotf makes clients of the older SDK.
function ibmiotf() {
  const sdk = require("ibmiotf");
  const quiet = (c) => { c.log.setLevel("silent"); return c; };
  const config = (account, more) => {
    const [, , type, id] = account.clientId.split(":");
    return { org, domain, type, id, "auth-method": "token", "auth-token": account.password, "enforce-ws": params.transport === "websockets", ...more };
  };
  return {
    device: (a) => quiet(new sdk.IotfDevice(config(a))),
    managed: (a) => quiet(new sdk.IotfManagedDevice(config(a))),
    gateway: (a) => quiet(new sdk.IotfGateway(config(a))),
    application: (a, { shared = false, instance } = {}) => quiet(new sdk.IotfApplication(config(a, {
      id: a.clientId.split(":")[2], type: shared ? "shared" : undefined, "auth-key": a.username,
      ...(instance ? { "instance-id": instance, "clean-session": false } : {}),
    }))),
    send: (c, ...args) => call("publish", (cb) => (c.publish ?? c.publishGatewayEvent).call(c, ...args, cb)),
    sendFor: (c, ...args) => call("publishDeviceEvent", (cb) => c.publishDeviceEvent(...args, cb)),
    listen: (c, type, id) => c.subscribeToDeviceCommand(type, id, "+", "+", 1),
    events: (c, qos) => c.subscribeToDeviceEvents("+", "+", "+", "+", qos),
    command: (c, ...args) => call("publishDeviceCommand", (cb) => c.publishDeviceCommand(...args, cb)),
  };
}

const make = { wiotp, ibmiotf }[params.sdk]();

// open connects a client and notes what it receives, and what the server
// answers to its subscriptions.
async function open(c) {
  c.inbox = new Queue();
  c.grants = new Queue();
  c.ended = 0;
  for (const name of ["command", "deviceEvent", "deviceCommand", "deviceStatus", "appStatus"]) {
    c.on(name, (...args) => c.inbox.push([name, ...args.map((a) => (Buffer.isBuffer(a) ? a.toString() : a))]));
  }
  c.failures = [];
  c.on("error", (e) => c.failures.push(String(e)));
  const ready = event(c, "connect");
  c.connect();
  c.mqtt.on("packetreceive", (p) => { if (p.cmd === "suback") c.grants.push(p.granted[0]); });
  c.mqtt.on("close", () => c.ended++);
  await ready;
  return c;
}

async function close(...all) {
  for (const c of all) {
    const { mqtt } = c;
    await within(new Promise((yes) => mqtt.end(false, yes)), "end");
  }
}

const tests = {
  async device() {
    const app = await open(make.application(params.app));
    make.events(app, 1);
    const grants = [await app.grants.next()];
    app.subscribeToDeviceStatus("+", "+");
    grants.push(await app.grants.next());
    app.subscribeToAppStatus("+");
    grants.push(await app.grants.next());
    const device = await open(make.device(params.device));
    grants.push(await device.grants.next());
    report("granted", grants);
    if (params.transport === "tcp") report("server name sent", device.mqtt.stream.servername || false);
    for (const qos of [0, 1, 2]) {
      await make.send(device, "status", "json", { d: { temperature: qos } }, qos);
      report(`event ${qos}`, await eventOf(app));
      await make.command(app, "sensor", "one", "blink", "json", { times: qos }, qos);
      report(`command ${qos}`, await device.inbox.next());
    }
    await make.send(device, "é ü", "free text %25", "not JSON: \u0001 ∞", 1);
    report("any format", await eventOf(app));
    await close(app, device);
    report("failures", [...app.failures, ...device.failures]);
  },

  async gateway() {
    const app = await open(make.application({ ...params.app, clientId: params.app.clientId + "-g" }));
    make.events(app, 1);
    await app.grants.next();
    const gateway = await open(make.gateway(params.gateway));
    make.listen(gateway, "+", "+");
    report("gateway granted", await gateway.grants.next());
    await make.send(gateway, "own", "json", "1", 1);
    report("gateway's event", await eventOf(app));
    await make.sendFor(gateway, "sensor", "attached", "reading", "json", "2", 1);
    report("attached device's event", await eventOf(app));
    await make.command(app, "sensor", "one", "secret", "json", "0", 1); // of a device that is not attached
    await make.command(app, "sensor", "attached", "blink", "json", "1", 1);
    report("attached device's command", await gateway.inbox.next());
    await make.command(app, "gw", "g1", "reboot", "json", "2", 1);
    report("gateway's command", await gateway.inbox.next());
    await make.sendFor(gateway, "sensor", "one", "forged", "json", "3", 0);
    await make.send(gateway, "own", "json", "4", 1);
    report("after forging", await eventOf(app));
    await close(app, gateway);
  },

  async shared() {
    const account = { ...params.app, clientId: `a:${org}:pool` };
    const members = [await open(make.application(account, { shared: true })), await open(make.application(account, { shared: true }))];
    for (const m of members) {
      make.events(m, 1);
      await m.grants.next();
    }
    const seen = [];
    const parts = [0, 0];
    members.forEach((m, i) => m.on("deviceEvent", (type, id, event, format, payload) => {
      if (event !== "pool") return;
      parts[i]++;
      seen.push(Number(payload));
    }));
    const device = await open(make.device(params.pooled));
    for (let i = 0; i < 20; i++) await make.send(device, "pool", "json", String(i), 1);
    await within((async () => { while (seen.length < 20) await pause(20); })(), "20 shared events");
    report("shared", [seen.sort((a, b) => a - b), parts.every((n) => n > 0)]);
    report("kicked", members.map((m) => m.ended));
    await close(device, ...members);
  },

  // A wrong token: the SDK must understand that it is to stop.
  async refused() {
    const c = make.device({ ...params.device, password: "wrong" });
    const seen = { errors: [], closed: 0, again: 0 };
    c.on("error", (e) => seen.errors.push(String(e)));
    c.connect();
    c.mqtt.on("reconnect", () => seen.again++);
    c.mqtt.on("close", () => seen.closed++);
    await event(c.mqtt, "close");
    await pause(4000); // it would come back after one second, or three
    report("refused", seen);
    c.mqtt.end(true);
  },
};

// eventOf returns the next event of a device, without what the platform says.
async function eventOf(app) {
  for (;;) {
    const e = await app.inbox.next("an event");
    if (e[0] === "deviceEvent") return e;
  }
}

const older = {
  async managed() {
    const device = make.managed(params.managed);
    const rejected = [];
    device.on("dmResponse", (r) => rejected.push(r));
    await open(device);
    report("managed granted", [await device.grants.next(), await device.grants.next()].sort());
    device.manage(3600, true, true);
    device.updateLocation(1, 2);
    device.addErrorCode(7);
    await make.send(device, "alive", "json", "1", 1);
    report("managed", [device.mqtt.connected, device.ended]);
    await close(device);
  },

  async durable() {
    const account = { ...params.app, clientId: `a:${org}:durable` };
    const one = await open(make.application(account, { shared: true, instance: "i1" }));
    make.events(one, 1);
    await one.grants.next();
    await close(one);
    const device = await open(make.device(params.slow));
    await make.send(device, "kept", "json", "1", 1);
    const again = await open(make.application(account, { shared: true, instance: "i1" }));
    let got;
    do got = await eventOf(again); while (got[3] !== "kept");
    report("durable", got);
    await close(device, again);
  },

  async https() {
    const app = await open(make.application({ ...params.app, clientId: params.app.clientId + "-h" }));
    make.events(app, 1);
    await app.grants.next();
    const device = make.device(params.posting);
    await within(device.publishHTTPS("posted", "json", { d: { t: 5 } }), "publishHTTPS");
    let got;
    do got = await eventOf(app); while (got[3] !== "posted");
    report("https", got);
    await close(app);
  },
};

const all = params.sdk === "ibmiotf" ? { ...tests, ...older } : tests;
for (const [name, test] of Object.entries(all)) {
  try {
    await test();
  } catch (error) {
    report(`failed: ${name}`, String(error?.stack ?? error));
  }
}
process.exit(0);
