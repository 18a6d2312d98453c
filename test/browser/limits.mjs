// A person looks at the limits of an organisation.
import { params, report } from "../clients/lib.mjs";
import { browser, context, open, path, signIn } from "./browser.mjs";

const page = await open(await context({ colorScheme: "light" }));
await signIn(page, params.signIn);
await page.getByRole("link", { name: "Limits" }).click();
await page.getByRole("heading", { level: 1 }).waitFor();
report("page", [path(page), await page.locator("table caption, h2").count()]);
report("used", await page.locator("tr", { has: page.locator("th", { hasText: "org.connections" }) }).locator("td").first().textContent());
await page.screenshot({ path: `${params.shots}/limits.png`, fullPage: true });
await page.setViewportSize({ width: 360, height: 800 });
report("too wide", await page.evaluate(() => document.documentElement.scrollWidth > innerWidth));
await page.screenshot({ path: `${params.shots}/limits-narrow.png` });
await page.getByRole("link", { name: "Devices" }).click();
await page.locator("#devices").waitFor();
report("complaints", page.complaints);
await browser.close();
