// A person signs in, watches readings arrive, and signs out.
import { call, event, params, report, within } from "../clients/lib.mjs";
import { browser, context, live, mqtt, open, path, signIn } from "./browser.mjs";

const mine = await context({ colorScheme: "light" });
const page = await open(mine);

await page.goto(params.console);
report("before signing in", [path(page), await page.locator("h1").textContent()]);
await signIn(page, params.signIn);
await page.locator("#devices").waitFor();
report("after signing in", [path(page), await page.locator("h1").textContent()]);
const [cookie] = await mine.cookies();
report("cookie", [cookie.secure, cookie.httpOnly, cookie.sameSite, (await mine.cookies()).length]);
await live(page);
await page.evaluate(() => { window.same = true; });

async function device(d) {
  const c = mqtt.connect(`mqtts://localhost:${params.port}`, { clientId: `d:${params.org}:${d.type}:${d.id}`, username: "use-token-auth", password: d.token, reconnectPeriod: 0 });
  await event(c, "connect");
  return c;
}
const send = (c, name, payload) => call("publish", (cb) => c.publish(`iot-2/evt/${name}/fmt/json`, payload, { qos: 1 }, cb));
const row = (d) => page.locator(`[data-source="${d.type}/${d.id}"]`);
const field = (d, event, name) => row(d).locator(".event").filter({ has: page.locator("h3", { hasText: event }) })
  .locator(".field").filter({ has: page.locator("dt", { hasText: name }) });
const shows = (d, event, name, text) => field(d, event, name).locator("dd").filter({ hasText: text }).waitFor();

// A reading appears, and the next one takes its place.
const first = await device(params.device);
await send(first, "status", JSON.stringify({ celsius: 21.5, door: true, place: { floor: 2 } }));
await shows(params.device, "status", "celsius", "21.5");
await shows(params.device, "status", "door", "yes");
await shows(params.device, "status", "place.floor", "2");
for (let i = 0; i < 10; i++) await send(first, "status", JSON.stringify({ celsius: 22 + i / 4 }));
await shows(params.device, "status", "celsius", "24.25");
await page.waitForFunction((source) => document.querySelector(`[data-source="${source}"] path`).hasAttribute("d"), `${params.device.type}/${params.device.id}`);
report("line", (await field(params.device, "status", "celsius").locator("path").getAttribute("d")).startsWith("M"));
report("seen", /now|sec/.test(await row(params.device).locator(".seen").textContent()));

// A device that is made while the page is open appears with its first reading.
const answer = await fetch(`${params.console}api/v1/orgs/${params.org}/devices`, {
  method: "POST", headers: { "Content-Type": "application/json", Authorization: `Bearer ${params.token}` },
  body: JSON.stringify({ type: params.device.type, id: "late" }),
});
const made = await answer.json();
const late = await device(made);
await send(late, "status", '{"humidity": 40}');
await shows(made, "status", "humidity", "40");

// What devices say is text, whatever it looks like.
const markup = '<img src=x onerror="window.pwned=1"><script>window.pwned=2</script>';
await send(late, "hostile", JSON.stringify({ [markup]: markup, "<b>name</b>": "</dd></dl><h1>title</h1>", "a&amp;b": "&lt;i&gt;" }));
await send(late, '<img src=x onerror="window.pwned=3">', "");
await send(late, "plain", "<svg onload=window.pwned=4>");
await send(late, "status", '{"humidity": 41}');
await shows(made, "status", "humidity", "41");
await shows(made, "<img src=x", "value", "empty");
report("hostile text", await row(made).locator(".event").evaluateAll((events) => Object.fromEntries(events.map((e) => [
  e.querySelector("h3").textContent,
  [...e.querySelectorAll(".field")].map((f) => [f.querySelector("dt").textContent, f.querySelector("dd").textContent]),
]))));
report("hostile markup", await page.evaluate(() => [window.pwned ?? null, document.querySelectorAll("#devices img, #devices script, #devices h1, #devices b, #devices i").length]));

// Finding a device.
await page.locator("#search").fill("late");
report("found", await page.locator(".device:visible h2").allTextContents());
await page.locator("#search").fill("");

// Three widths in both colour schemes: nothing is wider than the screen.
const wide = [];
const papers = new Set();
for (const colorScheme of ["light", "dark"]) {
  await page.emulateMedia({ colorScheme });
  for (const width of [390, 820, 1440]) {
    await page.setViewportSize({ width, height: 900 });
    await page.screenshot({ path: `${params.shots}/overview-${colorScheme}-${width}.png`, fullPage: true });
    const [over, paper] = await page.evaluate(() => [document.documentElement.scrollWidth - window.innerWidth, getComputedStyle(document.body).backgroundColor]);
    if (over > 0) wide.push(`${colorScheme} ${width}: ${over}px`);
    papers.add(paper);
  }
}
report("too wide", wide);
report("colour schemes", papers.size);
report("page was not loaded again", await page.evaluate(() => window.same === true));

// The link is used up: for somebody else, and for the same person.
const other = await context();
const stranger = await open(other);
await signIn(stranger, params.signIn);
report("second use of the link", [path(stranger).startsWith("/sign-in/"), await stranger.locator("h1").textContent(), (await other.cookies()).length]);
await stranger.screenshot({ path: `${params.shots}/used-link.png` });
await stranger.goto(params.console);
report("a stranger", path(stranger));

// Signing out ends the session everywhere, at once.
const second = await open(mine);
await second.goto(params.console);
await live(second);
await page.getByRole("button", { name: "Sign out" }).click();
await page.waitForURL("**/sign-in");
await page.screenshot({ path: `${params.shots}/sign-in.png` });
await second.locator('#state[data-state="over"]').waitFor();
report("the other tab", await second.locator("#state").textContent());
await page.goto(params.console);
report("after signing out", [path(page), (await mine.cookies()).length]);
const thief = await context();
await thief.addCookies([cookie]);
const stolen = await open(thief);
await stolen.goto(params.console);
report("with the old cookie", path(stolen));

report("complaints", [...page.complaints, ...second.complaints, ...(await page.evaluate(() => window.violations)), ...(await second.evaluate(() => window.violations))]);
first.end(true);
late.end(true);
await within(browser.close(), "close");
process.exit(0);
