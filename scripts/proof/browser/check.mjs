// Opens pages in Chromium and says what is wrong with them, as a JSON object a line.
// node check.mjs CHROMIUM SCREENSHOTS PAGE...
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { basename, join } from "node:path";
import { pathToFileURL } from "node:url";
import { chromium } from "playwright-core";

const VIEWS = [
  { width: 1280, colorScheme: "light" },
  { width: 1280, colorScheme: "dark" },
  { width: 390, colorScheme: "light" },
  { width: 390, colorScheme: "dark" },
];
const SMALLEST_TEXT = 11;
/** Elements of a page up to which axe sees what is folded, and compares whatever may cover something else. */
const MOST_INSPECTED = 10000;

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const [executablePath, screenshots, ...pages] = process.argv.slice(2);
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });

/** The texts of a page that are drawn smaller than they can be read, and how small. */
const smallTexts = (limit) => {
  const small = [];
  const walker = document.createTreeWalker(document.querySelector("main"), NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const element = node.parentElement;
    const box = element.getBoundingClientRect();
    if (!node.data.trim() || !box.width) continue;
    const svg = element.closest("svg");
    const scale = svg ? svg.getBoundingClientRect().width / svg.viewBox.baseVal.width : 1;
    const size = parseFloat(getComputedStyle(element).fontSize) * scale;
    if (size < limit) small.push(`${node.data.trim().slice(0, 20)}: ${size.toFixed(1)}`);
  }
  return small;
};

/** What somebody meets who only has a keyboard: the elements that Tab reaches without a visible mark. */
async function unmarked(page) {
  const found = [];
  await page.evaluate(() => scrollTo(0, 0));
  for (let presses = 0; presses < 40; presses += 1) {
    await page.keyboard.press("Tab");
    const [tag, marked] = await page.evaluate(() => {
      const element = document.activeElement;
      return [element.tagName, getComputedStyle(element).outlineStyle !== "none"];
    });
    if (tag === "BODY") break;
    if (!marked) found.push(tag);
  }
  return found;
}

/** Whether searching the first tree shows names that hold the text, and nothing else, and can be undone. */
async function searches(page) {
  const field = page.locator(".search input").first();
  if (!(await field.isVisible().catch(() => false))) return null;
  const shown = () =>
    page.evaluate(() =>
      [...document.querySelector(".tree").querySelectorAll(".names")]
        .filter((each) => each.getBoundingClientRect().width)
        .map((each) => each.closest("li").textContent.toLowerCase()));
  const all = await page.evaluate(() => document.querySelector(".tree").querySelectorAll("li").length);
  const word = await page.evaluate(() =>
    document.querySelector(".tree .names code")?.textContent.trim().slice(0, 6).toLowerCase() ?? "");
  const before = (await shown()).length;
  await field.fill(word);
  const hits = await shown();
  await field.fill("no such name anywhere");
  const none = await shown();
  await field.fill("");
  return { all, hits: hits.length, right: hits.length > 0 && none.length === 0 && (await shown()).length === before };
}

for (const file of pages) {
  for (const { width, colorScheme } of VIEWS) {
    const context = await browser.newContext({ viewport: { width, height: 900 }, colorScheme });
    const page = await context.newPage();
    const complaints = [];
    const requests = [];
    page.on("console", (message) => complaints.push(message.text()));
    page.on("pageerror", (error) => complaints.push(String(error)));
    page.on("request", (request) => requests.push(request.url()));
    const started = Date.now();
    await page.goto(pathToFileURL(file).href);
    const seconds = (Date.now() - started) / 1000;
    const name = `${basename(file, ".html")}-${width}-${colorScheme}.png`;
    await page.screenshot({ path: join(screenshots, name), fullPage: true });
    const search = await searches(page);
    const focus = await unmarked(page);
    await page.evaluate(() => document.querySelectorAll("details").forEach((each) => { each.open = true; }));
    const small = await page.evaluate(smallTexts, SMALLEST_TEXT);
    const overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    await context.close();

    // The page's own policy lets nothing else run in it, axe included.
    const inspected = await browser.newContext({ viewport: { width, height: 900 }, colorScheme, bypassCSP: true });
    const inspection = await inspected.newPage();
    await inspection.goto(pathToFileURL(file).href);
    const large = await inspection.evaluate((most) => document.querySelectorAll("*").length > most, MOST_INSPECTED);
    if (!large) {
      await inspection.evaluate(() => document.querySelectorAll("details").forEach((each) => { each.open = true; }));
    }
    await inspection.evaluate(axe);
    const { violations, passes } =
      large && width < VIEWS[0].width
        ? { violations: [], passes: [] }
        : await inspection.evaluate(
            (rules) => axe.run(document, { rules }),
            large ? { "color-contrast": { enabled: false } } : {},
          );
    await inspected.close();
    console.log(JSON.stringify({
      page: basename(file), width, scheme: colorScheme, seconds, complaints,
      requests: requests.slice(1), overflow: Math.max(overflow, 0), small: small.slice(0, 5), focus, search,
      violations: violations.map((each) => `${each.id}: ${each.nodes[0].html.slice(0, 160)}`), rules: passes.length,
    }));
  }
}
await browser.close();
