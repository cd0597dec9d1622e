/** The folder of the web app, put in by scripts/test.mjs. */
declare const __WEB__: string;
