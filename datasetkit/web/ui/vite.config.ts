// Builds the page into ../static with fixed names, so that the committed bundle can be compared
// byte for byte.
import react from "@vitejs/plugin-react";
import { defineConfig } from "vitest/config";

/** A tab's file is named after its folder in src/tabs/. */
function chunkName(chunk: { readonly name: string; readonly facadeModuleId?: string | null }) {
  const tab = /src\/tabs\/([\w-]+)\/index\.tsx$/.exec(chunk.facadeModuleId ?? "");
  return tab ? `tab-${tab[1]}.js` : `${chunk.name}.js`;
}

export default defineConfig({
  base: "./",
  plugins: [react()],
  build: {
    outDir: "../static",
    emptyOutDir: true,
    target: "es2022",
    // The server's content security policy allows no inline scripts and no data: URLs.
    assetsInlineLimit: 0,
    modulePreload: false,
    sourcemap: false,
    reportCompressedSize: false,
    // One file: each tab's styles are few, and none may arrive after its content.
    cssCodeSplit: false,
    rollupOptions: {
      output: {
        entryFileNames: "page.js",
        chunkFileNames: chunkName,
        assetFileNames: "page[extname]",
      },
    },
  },
  test: { include: ["tests/**/*.test.ts"], environment: "node" },
});
