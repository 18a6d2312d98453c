// What the scripts share: facts are reported as lines of JSON, which the Go
// tests judge, and everything ends in time.
export const params = JSON.parse(process.env.PARAMS);
export const patience = 30_000;

setTimeout(() => {
  console.log("the script did not end in time");
  process.exit(3);
}, 2.5 * patience).unref();
process.on("unhandledRejection", (error) => {
  console.log(error instanceof Error ? error.stack : `rejected: ${error}`);
  process.exit(2);
});

export function report(name, got) {
  console.log(JSON.stringify({ name, got: got === undefined ? null : got }));
}

export function within(promise, what, ms = patience) {
  let timer;
  const late = new Promise((_, no) => { timer = setTimeout(() => no(new Error(`${what}: not in ${ms} ms`)), ms); });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

// event resolves with the arguments of the next event.
export const event = (emitter, name) => within(new Promise((yes) => emitter.once(name, (...args) => yes(args))), name);

// call makes a promise of a function whose last argument is a callback.
export const call = (what, f) => within(new Promise((yes, no) => f((err, value) => (err ? no(err) : yes(value)))), what);

export const pause = (ms) => new Promise((yes) => setTimeout(yes, ms));

// A queue holds what arrives until somebody asks for it.
export class Queue {
  #items = [];
  #waiting = [];
  push(item) {
    const next = this.#waiting.shift();
    if (next) next(item);
    else this.#items.push(item);
  }
  next(what = "a message") {
    if (this.#items.length) return Promise.resolve(this.#items.shift());
    return within(new Promise((yes) => this.#waiting.push(yes)), what);
  }
  async take(n) {
    const all = [];
    for (let i = 0; i < n; i++) all.push(await this.next());
    return all;
  }
  // until takes everything before the item that ends it.
  async until(last) {
    const all = [];
    for (let i = 0; i < 10_000; i++) {
      const item = await this.next();
      if (last(item)) return all;
      all.push(item);
    }
    throw new Error("the end did not come");
  }
}
