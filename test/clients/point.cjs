// Loaded before a script: names below .localhost are this machine, as DNS would
// have it, and the ports that a client insists on are the one of the test.
const dns = require("dns");
const net = require("net");

const lookup = dns.lookup;
dns.lookup = (name, options, callback) => {
  if (typeof options === "function") [callback, options] = [options, {}];
  if (!/(^|\.)localhost$/.test(name)) return lookup(name, options, callback);
  if (options && options.all) return process.nextTick(callback, null, [{ address: "127.0.0.1", family: 4 }]);
  return process.nextTick(callback, null, "127.0.0.1", 4);
};

const connect = net.Socket.prototype.connect;
net.Socket.prototype.connect = function (...args) {
  const options = Array.isArray(args[0]) ? args[0][0] : args[0];
  if (options && [443, 8883].includes(Number(options.port))) options.port = Number(process.env.KEEPMQ_PORT);
  return connect.apply(this, args);
};
