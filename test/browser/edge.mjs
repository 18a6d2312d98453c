// The machine that the server runs on shows its own sensors.
import { params, report, within } from "../clients/lib.mjs";
import { browser, context, live, open, signIn } from "./browser.mjs";

const page = await open(await context());
await signIn(page, params.signIn);
await live(page);
await page.evaluate(() => { window.same = true; });
const row = page.locator('[data-source^="edge/"]');
await row.locator(".field").first().waitFor();
report("edge devices", await row.count());
// Several sensors are read, and again and again.
await page.waitForFunction(() => document.querySelectorAll('[data-source^="edge/"] .field').length >= 4);
await page.waitForFunction(() => [...document.querySelectorAll('[data-source^="edge/"] path')].some((p) => (p.getAttribute("d") ?? "").split("L").length > 2));
report("fields", await row.locator("h3").allTextContents());
report("fresh", await row.evaluate((r) => r.hasAttribute("data-fresh")));
await page.screenshot({ path: `${params.shots}/edge.png`, fullPage: true });
report("page was not loaded again", await page.evaluate(() => window.same === true));
report("complaints", [...page.complaints, ...(await page.evaluate(() => window.violations))]);
await within(browser.close(), "close");
process.exit(0);
