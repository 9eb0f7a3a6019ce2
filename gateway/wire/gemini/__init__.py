"""Google's Gemini: as clients speak it, as providers do, and what stands for what in chat."""
