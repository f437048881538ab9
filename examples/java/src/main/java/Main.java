import io.github.falrpc.Errors;
import io.github.falrpc.Falrpc;
import io.github.falrpc.v1.*;
import io.github.falrpc.v1.FalServiceGrpc.FalServiceBlockingStub;
import io.grpc.*;
import java.io.*;
import java.math.BigInteger;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.concurrent.TimeUnit;
import java.util.logging.Level;
import java.util.logging.Logger;

/** Uploads a picture, runs models in each of falrpc's ways, and handles what they refuse. */
public class Main {
  record Picture(String url, int width, int height) {}

  record Single(Picture image) {}

  record Several(List<Picture> images, BigInteger seed) {} // a seed has 64 bits and no sign

  private static final Logger GRPC_LOG = Logger.getLogger("io.grpc");

  public static void main(String[] arguments) {
    GRPC_LOG.setLevel(Level.SEVERE); // failures are told below
    try {
      ManagedChannel channel = connect(env("FALRPC_ADDRESS", "localhost:50051"), env("FALRPC_CA_FILE", ""));
      String token = env("FALRPC_TOKEN", "");
      FalServiceBlockingStub fal = FalServiceGrpc.newBlockingStub(channel);
      fal = token.isEmpty() ? fal : fal.withCallCredentials(Falrpc.bearer(token));
      try {
        String url = upload(fal, Path.of(arguments.length > 0 ? arguments[0] : "../photo.jpg"));
        cutOut(fal, url);
        draw(fal);
        makeSticker(fal);
        askTooMuch(fal);
        submitUnlessBusy(fal);
      } finally {
        channel.shutdownNow();
      }
    } catch (StatusRuntimeException e) {
      exit(e.getStatus().getCode() + ": " + explanation(e));
    } catch (IOException | RuntimeException e) {
      exit(e.toString());
    }
  }

  static ManagedChannel connect(String address, String authorities) throws IOException {
    if (authorities.isEmpty()) {
      return Falrpc.channel(address).build();
    }
    var tls = TlsChannelCredentials.newBuilder().trustManager(new File(authorities)).build();
    return Falrpc.channel(address, tls).build();
  }

  static String upload(FalServiceBlockingStub fal, Path photo) throws IOException {
    var header = UploadHeader.newBuilder().setFileName(photo.getFileName().toString()).build();
    try (InputStream file = Files.newInputStream(photo)) {
      String url = Falrpc.upload(within(60, fal), header, file).getUrl();
      System.out.println("uploaded   " + url);
      return url;
    }
  }

  /** Runs a model and reads its output into a record. */
  static void cutOut(FalServiceBlockingStub fal, String url) {
    RunRequest request = run("fal-ai/imageutils/rembg", Map.of("image_url", url));
    Picture image = Falrpc.decode(within(60, fal).run(request).getOutput(), Single.class).image();
    System.out.printf("cut out    %dx%d %s%n", image.width(), image.height(), image.url());
  }

  /** Puts a request into the queue and follows it to its result. */
  static void draw(FalServiceBlockingStub fal) {
    var input = Map.of("prompt", "a cat", "seed", new BigInteger("15860307465884635512"));
    var request = SubscribeRequest.newBuilder().setSubmit(submit(input)).setIncludeLogs(true).build();
    within(600, fal).subscribe(request).forEachRemaining(message -> {
      switch (message.getKindCase()) {
        case ACCEPTED -> System.out.println("accepted   " + message.getAccepted().getRequestId());
        case STATUS -> printStatus(message.getStatus());
        case LOGS -> message.getLogs().getEntriesList().forEach(
            entry -> System.out.println("log        " + entry.getMessage()));
        case RESULT -> {
          Several drawn = Falrpc.decode(message.getResult().getOutput(), Several.class);
          System.out.printf("picture    seed %d %s%n", drawn.seed(), drawn.images().get(0).url());
        }
        default -> {} // heartbeats, and what later versions add
      }
    });
  }

  static void printStatus(RequestStatus status) {
    switch (status.getState()) {
      case REQUEST_STATE_IN_QUEUE -> System.out.println("waiting    position " + status.getQueuePosition());
      case REQUEST_STATE_IN_PROGRESS -> System.out.println("running");
      default -> {} // completed: the result follows, or the call fails
    }
  }

  /** Runs a workflow and sees its steps as they come. */
  static void makeSticker(FalServiceBlockingStub fal) {
    StreamWorkflowRequest request = StreamWorkflowRequest.newBuilder()
        .setEndpointId("workflows/fal-ai/sdxl-sticker").setInput(Falrpc.input(Map.of("prompt", "a cat"))).build();
    within(600, fal).streamWorkflow(request).forEachRemaining(message -> {
      switch (message.getKindCase()) {
        case SUBMIT -> System.out.printf(
            "step       %s %s submitted%n", message.getSubmit().getNodeId(), message.getSubmit().getAppId());
        case COMPLETION -> System.out.printf("step       %s completed%n", message.getCompletion().getNodeId());
        case ERROR -> System.out.printf(
            "step       %s failed: %s%n", message.getError().getNodeId(), message.getError().getMessage());
        case OUTPUT -> System.out.println(
            "sticker    " + Falrpc.decode(message.getOutput().getOutput(), Single.class).image().url());
        default -> {} // started, heartbeats, and what later versions add
      }
    });
  }

  /** Sees what a model says of each field of a wrong input. */
  static void askTooMuch(FalServiceBlockingStub fal) {
    try {
      within(60, fal).run(run("fal-ai/fast-sdxl", Map.of("num_images", 99)));
    } catch (StatusRuntimeException e) {
      if (e.getStatus().getCode() != Status.Code.INVALID_ARGUMENT) {
        throw e;
      }
      Errors.fieldViolations(e).forEach(
          field -> System.out.printf("refused    %s: %s%n", field.getField(), field.getDescription()));
    }
  }

  /** Takes no place in a long queue, and gives back the one in a short queue. */
  static void submitUnlessBusy(FalServiceBlockingStub fal) {
    SubmitRequest.Builder request = submit(Map.of("prompt", "a cat"));
    request.getQueueBuilder().setMaxQueueLength(1);
    try {
      RequestHandle handle = within(60, fal).submit(request.build()).getHandle();
      within(60, fal).cancel(CancelRequest.newBuilder().setHandle(handle).build());
      System.out.println("queued     " + handle.getRequestId() + ", cancelled");
    } catch (StatusRuntimeException e) {
      if (!Errors.reason(e).equals("QUEUE_TOO_LONG")) {
        throw e;
      }
      long seconds = Errors.retryAfter(e).orElseThrow().plusMillis(999).toSeconds(); // rounded up
      System.out.printf("quota      QUEUE_TOO_LONG, try again in %ds%n", seconds);
    }
  }

  static RunRequest run(String endpointId, Map<String, ?> input) {
    return RunRequest.newBuilder().setEndpointId(endpointId).setInput(Falrpc.input(input)).build();
  }

  static SubmitRequest.Builder submit(Map<String, ?> input) {
    return SubmitRequest.newBuilder().setEndpointId("fal-ai/fast-sdxl").setInput(Falrpc.input(input));
  }

  /** A deadline is a moment, so each call gets one of its own. */
  static FalServiceBlockingStub within(int seconds, FalServiceBlockingStub fal) {
    return fal.withDeadlineAfter(seconds, TimeUnit.SECONDS);
  }

  /** What the server says, or why the connection failed. */
  static String explanation(StatusRuntimeException e) {
    Throwable root = e;
    while (root.getCause() != null) {
      root = root.getCause();
    }
    String hint = e.getStatus().getCode() == Status.Code.UNAUTHENTICATED ? " (set FALRPC_TOKEN)" : "";
    Object said = root == e ? Objects.requireNonNullElse(e.getStatus().getDescription(), "nobody said why") : root;
    return said + hint;
  }

  static void exit(String message) {
    System.err.println("falrpc: " + message.replaceAll("\\s+", " "));
    System.exit(1);
  }

  static String env(String name, String otherwise) {
    String value = System.getenv(name);
    return value == null || value.isEmpty() ? otherwise : value;
  }
}
